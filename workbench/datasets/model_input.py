"""Images as a model takes them: normalised float32 or uint8 pixels of its size, in the layout of its input."""

from __future__ import annotations

import numpy as np

from ..errors import refuse_unless

#: The type of a model's input -> what to do with an array of another type.
_MAKE = {
    "float32": "turn uint8 pixels into the model's input with workbench.normalise; of an image set give .x",
    "uint8": "the graph normalises by itself: give the pixels; of an image set that was loaded with "
    "preprocessing=graph.preprocessing give .x",
}


def check_model_input(
    images, size: int, layout: str = "NHWC", model: str = "the model", dtype: str = "float32"
) -> np.ndarray:
    """Check images before any work is done on them.

    Args:
        images: (N, size, size, 3), float32 and normalised, or uint8 pixels; for a model of layout NCHW also
            (N, 3, size, size).
        size: edge of the model's input, pixels.
        layout: ``NHWC`` or ``NCHW``, the model's own.
        model: what an error calls the model.
        dtype: ``float32`` or ``uint8``, the type of the model's input.

    Returns:
        The same images with the channels last, (N, size, size, 3).

    Raises:
        WorkbenchError: another type, shape or size; no image at all; or values that are not finite.
    """
    expected = f"{dtype} (N, {size}, {size}, 3)"
    found = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
    refuse_unless(
        isinstance(images, np.ndarray) and images.dtype == dtype,
        f"The images must be a {dtype} array, {'already normalised' if dtype == 'float32' else 'the pixels'}",
        why=f"expected was {expected}, given was {found}",
        remedy=_MAKE[dtype],
    )
    if layout == "NCHW" and images.shape[1:] == (3, size, size):
        images = images.transpose(0, 2, 3, 1)
    refuse_unless(
        images.shape[1:] == (size, size, 3),
        f"The images do not fit {model}",
        why=f"expected was {expected}, given was {found}",
        remedy="resize the images, or load the checkpoint with image_size at theirs; channels come last",
    )
    refuse_unless(len(images) > 0, "There are no images", why="the array has zero rows", remedy="give one or more")
    finite = np.isfinite(images).all(axis=(1, 2, 3))
    refuse_unless(
        bool(finite.all()),
        "The images hold NaN or infinity",
        why=f"{int((~finite).sum())} of {len(images)} images do, first image {int(finite.argmin())}",
        remedy="look for a division by zero in the preprocessing, or leave these images out",
    )
    return images


def in_layout(images: np.ndarray, layout: str) -> np.ndarray:
    """Images (N, H, W, 3) in a model's layout, contiguous in memory: as they are, or (N, 3, H, W) for ``NCHW``."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2) if layout == "NCHW" else images)
