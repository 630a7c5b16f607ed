"""What runs only where there is a GPU."""

import os

import pytest
import torch

#: Such as `cpu`, to see that these tests run at all.
DEVICE = os.environ.get("EASEL_TEST_DEVICE", "cuda")


@pytest.fixture(scope="package")
def device() -> str:
    """Where to draw."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no GPU here")
    return DEVICE
