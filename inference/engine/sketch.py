"""What will become of a picture, seen from the midst of its steps."""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Sketch:
    """One evaluation of the model: what was put in, and what it said."""

    scheduler: Any
    #: In the timesteps of the training; some schedulers step between them.
    timestep: Any
    noisy_latents: torch.Tensor
    prediction: torch.Tensor

    def clean_latents(self) -> torch.Tensor:
        """Estimate the latents without the noise that is still in them.

        The latents themselves show little but noise until the last steps, whereas the model says at each of them what
        it takes for the picture. With `a` the share of signal in the variance at this timestep, `x = sqrt(a) x0 +
        sqrt(1 - a) noise` (Ho et al. 2020, equation 4) is solved for x0 where the model predicts the noise, and for a
        velocity it is `sqrt(a) x - sqrt(1 - a) v` (Salimans and Ho 2022, appendix D).

        Raises:
            ValueError: the model predicts something else.
        """
        share = self._signal_share()
        signal, noise = share**0.5, (1 - share) ** 0.5
        latents, prediction = self.noisy_latents.float(), self.prediction.float()
        if float(self.scheduler.init_noise_sigma) > 1:  # it lets the variance grow: its latents are x / sqrt(a)
            latents = signal * latents
        match self.scheduler.config.prediction_type:
            case "epsilon":
                return (latents - noise * prediction) / signal
            case "v_prediction":
                return signal * latents - noise * prediction
            case "sample":
                return prediction
            case other:
                raise ValueError(f"no preview of a model that predicts {other}")

    def _signal_share(self) -> float:
        shares = self.scheduler.alphas_cumprod
        timestep = min(max(float(self.timestep), 0.0), len(shares) - 1.0)
        before = min(int(timestep), len(shares) - 2)
        return float(torch.lerp(shares[before], shares[before + 1], timestep - before))
