"""The adapter of Stable Diffusion 1 and 2 and what was distilled from them."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from loguru import logger

from inference.engine import pipelines
from inference.engine.adapter import Conditioning, InvalidOutput, Latents, OnEvaluation, Traits
from inference.engine.engine import DrawRequest, Pixels
from inference.engine.pipelines import StockPipeline
from inference.engine.preview_decoder import PreviewDecoder, Unfit
from inference.engine.sketch import Sketch, SketchBook


class StableDiffusionAdapter:
    """Runs diffusers' own pipeline in three parts; together they give what its `__call__` gives, bit for bit."""

    def __init__(self, pipeline: Any, *, name: str) -> None:
        self._pipeline = StockPipeline(pipeline, name=name)
        self._preview_decoder: PreviewDecoder | None = None

    @property
    def traits(self) -> Traits:
        """What the model can do; it has previews once it is warmed up."""
        return replace(self._pipeline.traits, previews=self._preview_decoder is not None)

    def warm_up(self) -> None:
        """Draw a small picture, and learn how to show others before they are done."""
        request = self._pipeline.warm_up_request()
        conditioning = self.encode(request)
        self.decode(self.denoise(request, conditioning, seed=request.seed, on_evaluation=lambda *_evaluation: None))
        self._preview_decoder = self._fit_preview_decoder()

    def encode(self, request: DrawRequest) -> Conditioning:
        """Turn the prompts into embeddings; only with guidance is there a negative one."""
        with pipelines.device_errors(), torch.no_grad():
            positive, negative = self._pipeline.parts.encode_prompt(
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
        sketches = SketchBook(self._pipeline.renew_scheduler(request.scheduler))
        return self._pipeline.draw(
            request,
            seed=seed,
            on_evaluation=lambda done, evaluations: on_evaluation(done, evaluations, sketches.latest),
            guidance_scale=request.guidance_scale,
            output_type="latent",
            **conditioning,
        )

    def preview(self, sketch: Sketch) -> Pixels | None:
        """Show what the model takes for the picture by now."""
        if self._preview_decoder is None:
            return None
        with pipelines.device_errors(), torch.no_grad():
            return self._preview_decoder(sketch.clean_latents())

    def decode(self, latents: Latents) -> Pixels:
        """Turn the latents of one picture into pixels.

        Raises:
            InvalidOutput: they are not all numbers.
        """
        with pipelines.device_errors(), torch.no_grad():
            decoded = self._decode(latents)
            if not torch.isfinite(decoded).all():
                raise InvalidOutput("the picture came out as not-a-number")
            (picture,) = self._pipeline.parts.image_processor.postprocess(decoded, output_type="pil")
        return np.asarray(picture)

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        vae = self._pipeline.parts.vae
        return vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]

    def _fit_preview_decoder(self) -> PreviewDecoder | None:
        vae = self._pipeline.parts.vae
        try:
            with pipelines.device_errors(), torch.no_grad():
                return PreviewDecoder.fit(
                    self._decode, channels=vae.config.latent_channels, device=vae.device, dtype=vae.dtype
                )
        except Unfit as error:
            logger.warning("no previews of this model: {}", error, action="no_previews")
            return None

    def _guides(self, request: DrawRequest) -> bool:
        # Models with an embedding of the guidance scale take it into the denoiser instead.
        return request.guidance_scale > 1 and self._pipeline.parts.unet.config.time_cond_proj_dim is None
