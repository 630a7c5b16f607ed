"""The adapter of Stable Diffusion 1 and 2 and what was distilled from them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from loguru import logger

from inference import schedulers
from inference.engine import pipelines
from inference.engine.adapter import InvalidOutput, Traits
from inference.engine.compilation import compile_in_background
from inference.engine.device_memory import MemoryGauge
from inference.engine.embedding_cache import EmbeddingCache
from inference.engine.engine import DrawRequest, Pixels
from inference.engine.latent_state import LatentState
from inference.engine.observer import UNOBSERVED, Observer
from inference.engine.pipelines import device_errors, traits_of
from inference.engine.preview_decoder import PreviewDecoder, Unfit

#: What one prompt became, by the names under which the denoiser takes it: 1 x ...
Embeddings: TypeAlias = Mapping[str, torch.Tensor]


class StableDiffusionAdapter:
    """Diffusers' own pipeline, cut at its steps. A picture alone in its batch is the pipeline's own, bit for bit.

    Args:
        pipeline: The pipeline, on its device.
        name: Tells distilled models, whose configuration does not.
        cache_bytes: How much memory embeddings may take that are kept for prompts that come again.
        fixed_rows: Fill every batch up to so many rows: then no bit of a picture depends on its neighbours. 0 does not.
        compiles: Compile the denoiser in the background, and go over to that when it is ready.
        observer: Is told of prompts that were known, and of the device's memory.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        name: str,
        cache_bytes: int,
        fixed_rows: int = 0,
        compiles: bool = False,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._pipeline = pipeline
        self._denoiser = pipeline.unet
        # Once, since it looks through all modules for those that are offloaded.
        self._device = torch.device(pipeline._execution_device)  # noqa: SLF001  # where offloaded models draw
        self._traits = traits_of(pipeline, name=name)
        #: The one that the pipeline was saved with, of which the others are made.
        self._saved_scheduler = pipeline.scheduler
        self._cache: EmbeddingCache[Embeddings] = EmbeddingCache(
            most_bytes=cache_bytes, size_bytes=_size_bytes, observer=observer
        )
        self._memory = MemoryGauge(self._device, observer)
        self._fixed_rows = fixed_rows
        self._compiles = compiles
        self._preview_decoder: PreviewDecoder | None = None

    @property
    def traits(self) -> Traits:
        """What the model can do; it has previews once it is warmed up."""
        return replace(self._traits, previews=self._preview_decoder is not None)

    def warm_up(self) -> None:
        """Draw a small picture, and learn how to show others before they are done."""
        request = pipelines.warm_up_request(self._traits, device=self._device)
        state = self.begin(request, self.encode(request), seed=request.seed)
        for _ in range(state.evaluations):
            (prediction,) = self.evaluate([state])
            self.advance(state, prediction)
        self.decode([state])
        self._preview_decoder = self._fit_preview_decoder()

    def tune(self) -> None:
        """Compile the denoiser in the background, if that was asked for."""
        if self._compiles:
            self._compile()

    def encode(self, request: DrawRequest) -> Sequence[Embeddings]:
        """Turn the prompts into embeddings, one for each row; only with guidance is there a negative one."""
        positive = self._cache.get(("prompt", request.prompt), lambda: self._encode(request.prompt))
        if not self._guides(request):
            return [positive]
        # An empty one is none: that is what it is called where people use diffusers.
        words = request.negative_prompt or None
        negative = self._cache.get(("negative prompt", words), lambda: self._encode_negative(words, beside=positive))
        return [negative, positive]

    def begin(self, request: DrawRequest, conditioning: Sequence[Embeddings], *, seed: int) -> LatentState:
        """Make the noise that one picture starts from, and its schedule."""
        # On the CPU: so all devices start from the same noise, and no step waits for a number to come from a device.
        generator = torch.Generator("cpu").manual_seed(seed)
        scheduler = schedulers.build(request.scheduler, self._saved_scheduler)
        with device_errors(), torch.no_grad(), self._pipeline_with(scheduler) as pipeline:
            scheduler.set_timesteps(request.steps, device="cpu")
            conditions = {
                name: torch.cat([embeddings[name] for embeddings in conditioning]) for name in conditioning[0]
            }
            latents = pipeline.prepare_latents(
                1,
                self._pipeline.unet.config.in_channels,
                request.height,
                request.width,
                conditions["encoder_hidden_states"].dtype,
                self._device,
                generator,
            )
            return LatentState(
                latents=latents,
                scheduler=scheduler,
                step_arguments=pipeline.prepare_extra_step_kwargs(generator, eta=0.0),
                guidance_scale=request.guidance_scale,
                conditions={**conditions, **self._further_conditions(request, rows=len(conditioning))},
            )

    def evaluate(self, states: Sequence[LatentState]) -> Sequence[torch.Tensor]:
        """Evaluate the denoiser once for all rows of some pictures; each row has its own timestep."""
        return self._evaluate(self._denoiser, states)

    def advance(self, state: LatentState, prediction: torch.Tensor) -> None:
        """Take one picture a step on, by its own scheduler."""
        with device_errors(), torch.no_grad():
            state.advance(prediction)

    def wait(self) -> None:
        """Wait until the device has done what it was told."""
        with device_errors():
            pipelines.wait_for(self._device)
            self._memory.look()

    def preview(self, state: LatentState) -> Pixels | None:
        """Show what the model takes for the picture by now."""
        if self._preview_decoder is None or state.sketch is None:
            return None
        with device_errors(), torch.no_grad():
            return self._preview_decoder(state.sketch.clean_latents())

    def decode(self, states: Sequence[LatentState]) -> Sequence[Pixels]:
        """Turn the latents of some pictures into pixels.

        Raises:
            InvalidOutput: they are not all numbers.
        """
        latents = [state.latents for state in states]
        with device_errors(), torch.no_grad():
            # Where no bit may depend on the others, each has a batch of its own here, too.
            batches = latents if self._fixed_rows else [torch.cat(latents)]
            decoded = torch.cat([self._decode(batch) for batch in batches])
            if not torch.isfinite(decoded).all():
                raise InvalidOutput("the picture came out as not-a-number")
            pictures = self._pipeline.image_processor.postprocess(decoded, output_type="pil")
            self._make_room()
        return [np.asarray(picture) for picture in pictures]

    @contextmanager
    def _pipeline_with(self, scheduler: Any) -> Iterator[Any]:
        """Lend the pipeline a scheduler."""
        self._pipeline.scheduler = scheduler
        try:
            yield self._pipeline
        finally:
            self._pipeline.scheduler = self._saved_scheduler

    def _encode(self, prompt: str) -> Embeddings:
        with device_errors(), torch.no_grad():
            self._make_room()
            embeddings, _ = self._pipeline.encode_prompt(prompt, self._device, 1, False)
        return {"encoder_hidden_states": embeddings}

    def _make_room(self) -> None:
        """Take whole parts off the device, where they are offloaded: each only drives out the one before it."""
        if getattr(self._pipeline, "_all_hooks", None):
            self._pipeline.maybe_free_model_hooks()

    def _encode_negative(self, prompt: str | None, *, beside: Embeddings) -> Embeddings:
        with device_errors(), torch.no_grad():
            _, embeddings = self._pipeline.encode_prompt(
                "", self._device, 1, True, prompt, prompt_embeds=beside["encoder_hidden_states"]
            )
        return {"encoder_hidden_states": embeddings}

    def _further_conditions(self, request: DrawRequest, *, rows: int) -> Mapping[str, torch.Tensor]:
        """Make what conditions the denoiser besides prompts: rows x ..."""
        size = self._pipeline.unet.config.time_cond_proj_dim
        if size is None:
            return {}
        scale = torch.tensor(request.guidance_scale - 1).repeat(rows)
        embedding = self._pipeline.get_guidance_scale_embedding(scale, embedding_dim=size)
        return {"timestep_cond": embedding.to(device=self._device, dtype=self._pipeline.unet.dtype)}

    def _evaluate(self, denoiser: Any, states: Sequence[LatentState]) -> Sequence[torch.Tensor]:
        rows = [state.rows for state in states]
        with device_errors(), torch.no_grad():
            timesteps = torch.tensor([float(state.timestep) for state in states for _ in range(state.rows)])
            conditions = {
                name: self._fill(torch.cat([state.conditions[name] for state in states]))
                for name in states[0].conditions
            }
            predicted = denoiser(
                self._fill(torch.cat([state.model_input() for state in states])),
                self._fill(timesteps).to(self._device),
                **self._denoiser_arguments(conditions),
                return_dict=False,
            )[0]
            return [state.guide(own) for state, own in zip(states, predicted[: sum(rows)].split(rows), strict=True)]

    def _denoiser_arguments(self, conditions: Mapping[str, torch.Tensor]) -> Mapping[str, Any]:
        return conditions

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        vae = self._pipeline.vae
        decoded: torch.Tensor = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
        return decoded

    def _fill(self, rows: torch.Tensor) -> torch.Tensor:
        """Fill a batch up to its fixed number of rows, if it has one; what is filled in is thrown away."""
        missing = self._fixed_rows - len(rows)
        return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing > 0 else rows

    def _compile(self) -> None:
        guided = self._traits.default_request()
        plain = replace(guided, guidance_scale=0.0)
        states = [self.begin(request, self.encode(request), seed=0) for request in (guided, plain)]

        def try_out(denoiser: Any) -> None:
            # A single row is compiled apart from several, which may be any number.
            for several in (states, states[1:]):
                self._evaluate(denoiser, several)

        def on_ready(denoiser: Any) -> None:
            self._denoiser = denoiser

        compile_in_background(self._denoiser, try_out, on_ready)

    def _fit_preview_decoder(self) -> PreviewDecoder | None:
        vae = self._pipeline.vae
        try:
            with device_errors(), torch.no_grad():
                return PreviewDecoder.fit(
                    self._decode, channels=vae.config.latent_channels, device=self._device, dtype=vae.dtype
                )
        except Unfit as error:
            logger.warning("no previews of this model: {}", error, action="no_previews")
            return None

    def _guides(self, request: DrawRequest) -> bool:
        # Models with an embedding of the guidance scale take it into the denoiser instead.
        return request.guidance_scale > 1 and self._pipeline.unet.config.time_cond_proj_dim is None


def _size_bytes(embeddings: Embeddings) -> int:
    return sum(tensor.nbytes for tensor in embeddings.values())
