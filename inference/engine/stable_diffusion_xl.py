"""The adapter of Stable Diffusion XL and what was distilled from it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from inference.engine.engine import DrawRequest
from inference.engine.latent_state import LatentState
from inference.engine.pipelines import device_errors
from inference.engine.stable_diffusion import Embeddings, StableDiffusionAdapter


def upcast_decoder(pipeline: Any) -> None:
    """Have the decoder work in single precision, since it overflows in half; to be done before it is offloaded.

    The pipeline does this for each picture, and undoes it.
    """
    if pipeline.vae.dtype == torch.float16 and pipeline.vae.config.force_upcast:
        pipeline.vae.to(torch.float32)


class StableDiffusionXLAdapter(StableDiffusionAdapter):
    """As the smaller one, with two text encoders, sizes as further conditions, and a decoder of its own precision.

    The decoder has to be kept from half precision before: see `upcast_decoder`.
    """

    def begin(self, request: DrawRequest, conditioning: Sequence[Embeddings], *, seed: int) -> LatentState:
        """Make the noise that one picture starts from, and its schedule."""
        state = super().begin(request, conditioning, seed=seed)
        if hasattr(state.scheduler, "set_begin_index"):
            state.scheduler.set_begin_index(0)
        return state

    def _encode(self, prompt: str) -> Embeddings:
        with device_errors(), torch.no_grad():
            self._make_room()
            embeddings, _, pooled, _ = self._pipeline.encode_prompt(
                prompt, device=self._device, num_images_per_prompt=1, do_classifier_free_guidance=False
            )
        return {"encoder_hidden_states": embeddings, "text_embeds": pooled}

    def _encode_negative(self, prompt: str | None, *, beside: Embeddings) -> Embeddings:
        with device_errors(), torch.no_grad():
            _, embeddings, _, pooled = self._pipeline.encode_prompt(
                "",
                device=self._device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=True,
                negative_prompt=prompt,
                prompt_embeds=beside["encoder_hidden_states"],
                pooled_prompt_embeds=beside["text_embeds"],
            )
        return {"encoder_hidden_states": embeddings, "text_embeds": pooled}

    def _further_conditions(self, request: DrawRequest, *, rows: int) -> Mapping[str, torch.Tensor]:
        size = (request.height, request.width)
        second_encoder = self._pipeline.text_encoder_2
        time_ids = self._pipeline._get_add_time_ids(  # noqa: SLF001  # diffusers has no other way
            size,
            (0, 0),
            size,
            dtype=self._pipeline.unet.dtype,
            text_encoder_projection_dim=second_encoder.config.projection_dim,
        )
        further = super()._further_conditions(request, rows=rows)
        return {**further, "time_ids": time_ids.repeat(rows, 1).to(self._device)}

    def _denoiser_arguments(self, conditions: Mapping[str, torch.Tensor]) -> Mapping[str, Any]:
        added = ("text_embeds", "time_ids")
        others = {name: condition for name, condition in conditions.items() if name not in added}
        return {**others, "added_cond_kwargs": {name: conditions[name] for name in added}}

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        vae = self._pipeline.vae
        latents = latents.to(vae.dtype)
        mean, deviation = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
        if mean is None or deviation is None:
            latents = latents / vae.config.scaling_factor
        else:
            mean, deviation = (torch.tensor(one).view(1, -1, 1, 1).to(latents) for one in (mean, deviation))
            latents = latents * deviation / vae.config.scaling_factor + mean
        decoded: torch.Tensor = vae.decode(latents, return_dict=False)[0]
        watermark = self._pipeline.watermark
        return decoded if watermark is None else watermark.apply_watermark(decoded)
