"""The models for the benchmarks of a GPU are as large as the published ones."""

import torch
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from bench import random_models


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_they_have_as_many_parameters_as_the_checkpoints_that_they_stand_for() -> None:
    with torch.device("meta"):
        assert parameters(random_models.sd15_unet()) == 859_520_964
        assert parameters(random_models.sdxl_unet()) == 2_567_463_684
        assert parameters(random_models._vae(sample_size=512, scaling_factor=1.0)) == 83_653_863
        assert parameters(CLIPTextModel(random_models._clip_l())) == 123_060_480
        assert parameters(CLIPTextModelWithProjection(random_models._open_clip_bigg())) == 694_659_840
