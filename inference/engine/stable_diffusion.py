"""The adapter of Stable Diffusion 1 and 2 and what was distilled from them."""

from typing import Any

import numpy as np
import torch

from inference import schedulers
from inference.engine import pipelines
from inference.engine.adapter import Conditioning, InvalidOutput, Latents, OnEvaluation, Traits
from inference.engine.engine import DrawRequest, Pixels


class StableDiffusionAdapter:
    """Runs diffusers' own pipeline in three parts; together they give what its `__call__` gives, bit for bit."""

    def __init__(self, pipeline: Any, *, name: str) -> None:
        self._pipeline = pipeline
        self._saved_scheduler = pipeline.scheduler
        self._traits = pipelines.traits_of(pipeline, name=name)

    @property
    def traits(self) -> Traits:
        """What the model can do."""
        return self._traits

    def warm_up(self) -> None:
        """Draw a small picture."""
        request = pipelines.warm_up_request(self._traits, device=self._pipeline.device.type)
        conditioning = self.encode(request)
        self.decode(self.denoise(request, conditioning, seed=request.seed, on_evaluation=lambda _done, _all: None))

    def encode(self, request: DrawRequest) -> Conditioning:
        """Turn the prompts into embeddings; only with guidance is there a negative one."""
        with pipelines.device_errors(), torch.no_grad():
            positive, negative = self._pipeline.encode_prompt(
                request.prompt,
                self._pipeline.device,
                1,  # pictures are drawn one by one
                self._guides(request),
                request.negative_prompt,
            )
        return {"prompt_embeds": positive, "negative_prompt_embeds": negative}

    def denoise(
        self, request: DrawRequest, conditioning: Conditioning, *, seed: int, on_evaluation: OnEvaluation
    ) -> Latents:
        """Run the pipeline from the embeddings to the latents, with a scheduler of its own."""
        self._pipeline.scheduler = schedulers.build(request.scheduler, self._saved_scheduler)
        with pipelines.device_errors():
            return self._pipeline(
                **conditioning,
                width=request.width,
                height=request.height,
                num_inference_steps=request.steps,
                guidance_scale=request.guidance_scale,
                generator=pipelines.generator(seed),
                output_type="latent",
                callback_on_step_end=pipelines.step_callback(self._pipeline, on_evaluation),
            ).images

    def decode(self, latents: Latents) -> Pixels:
        """Turn the latents of one picture into pixels.

        Raises:
            InvalidOutput: they are not all numbers.
        """
        vae = self._pipeline.vae
        with pipelines.device_errors(), torch.no_grad():
            decoded = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
            if not torch.isfinite(decoded).all():
                raise InvalidOutput("the picture came out as not-a-number")
            (picture,) = self._pipeline.image_processor.postprocess(decoded, output_type="pil")
        return np.asarray(picture)

    def _guides(self, request: DrawRequest) -> bool:
        # Models with an embedding of the guidance scale take it into the denoiser instead.
        return request.guidance_scale > 1 and self._pipeline.unet.config.time_cond_proj_dim is None
