"""From an image to a model's input: resize, crop, normalise, as a ``Preprocessing`` record says."""

from __future__ import annotations

import numpy as np

from ..errors import refuse_unless
from ..records import Preprocessing


def normalise(pixels: np.ndarray, preprocessing: Preprocessing | None = None) -> np.ndarray:
    """Pixels as a model takes them: ``(pixel - mean) / std`` in the layout that the record names.

    Args:
        pixels: (N, H, W, 3) uint8.
        preprocessing: mean, std and layout; None is vit_jax's (x - 127.5) / 127.5 in NHWC.

    Returns:
        float32, (N, H, W, 3), or (N, 3, H, W) where the layout is NCHW.

    Raises:
        WorkbenchError: the pixels are of another type or shape, there are none, or they have another size than
            the record says.
    """
    check_pixels(pixels)
    if preprocessing is None:
        return (pixels.astype(np.float32) - np.float32(127.5)) / np.float32(127.5)
    height, width = pixels.shape[1:3]
    refuse_unless(
        height == width == preprocessing.size,
        "The images do not have the size that the model takes",
        why=f"they are {width} x {height} pixels and the preprocessing says {preprocessing.size}",
        remedy="prepare them with datasets.preprocessing.prepare, or give a preprocessing of their size",
    )
    mean, std = (np.asarray(values, np.float32) for values in (preprocessing.mean, preprocessing.std))
    x = (pixels.astype(np.float32) - mean) / std
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if preprocessing.layout == "NCHW" else x


def check_pixels(pixels: np.ndarray) -> None:
    """Refuse what is not a batch of RGB images (N, H, W, 3) uint8 with at least one image."""
    found = f"{type(pixels).__name__} of shape {np.shape(pixels)} and type {getattr(pixels, 'dtype', None)}"
    refuse_unless(
        isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8,
        "Pixels must be a NumPy array of uint8",
        why=f"they are a {found}",
        remedy="give 0...255 values as uint8; float images in 0...1 are multiplied by 255 and rounded first",
    )
    refuse_unless(
        pixels.ndim == 4 and pixels.shape[-1] == 3 and pixels.shape[1] > 0 and pixels.shape[2] > 0,
        "Pixels must have the shape (images, height, width, 3)",
        why=f"they are a {found}",
        remedy="put a single image into a batch with pixels[None]; turn grey images into RGB first",
    )
    refuse_unless(len(pixels) > 0, "There are no images", why=f"they are a {found}", remedy="give one or more")
