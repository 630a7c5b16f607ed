"""Paints scenes: a sky, the ground in its light, and what stands on it."""

from inference.postcard.painting.postcard import SIZE_PIXELS, paint

__all__ = ["SIZE_PIXELS", "paint"]
