"""Golden images and logits: whether a model computes here what the original computed where it was packed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import WorkbenchError, refuse_unless

IMAGES, LOGITS = "golden/images.npy", "golden/logits.npy"


def write_golden(folder: Path, images: np.ndarray, logits: np.ndarray) -> None:
    """Write images (N, H, W, 3) and logits (N, classes), both float32, as NumPy's own files."""
    for name, array in ((IMAGES, images), (LOGITS, logits)):
        (folder / name).parent.mkdir(exist_ok=True)
        np.save(folder / name, np.ascontiguousarray(array, np.float32), allow_pickle=False)


def read_golden(folder: Path, size: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Golden images (N, size, size, 3) and logits (N, classes) of a bundle.

    Raises:
        WorkbenchError: they cannot be read, or have other shapes or types.
    """
    images, logits = _array(folder / IMAGES), _array(folder / LOGITS)
    refuse_unless(
        images.dtype == logits.dtype == np.float32
        and len(images) > 0
        and images.shape[1:] == (size, size, 3)
        and logits.shape == (len(images), classes),
        "The golden images and logits do not fit the model",
        why=f"they are {images.dtype} {images.shape} and {logits.dtype} {logits.shape}",
        remedy="ask for the bundle again",
    )
    return images, logits


def _array(path: Path) -> np.ndarray:
    """An array of a .npy file, mapped first: a shape beyond the file's end is refused and takes no memory."""
    try:
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError, SyntaxError, OverflowError, MemoryError) as error:
        why = f"{type(error).__name__}: {error}"[:400]
        raise WorkbenchError(f"{path} is no array", why=why, remedy="ask for the bundle again") from error


def golden_error(
    run: Callable[[np.ndarray], np.ndarray], images: np.ndarray, logits: np.ndarray, batch: int
) -> float:
    """The largest absolute difference between computed and golden logits; NaN where a computed one is NaN.

    Args:
        run: logits (n, classes) of images (n, H, W, 3).
        images: (N, H, W, 3).
        logits: (N, classes).
        batch: images per call.
    """
    found = [run(images[start : start + batch]) for start in range(0, len(images), batch)]
    return float(np.abs(np.concatenate(found) - logits).max())


def golden_fault(what: str, error: float, tolerance: float) -> str:
    """What is wrong with a model whose golden logits differ by ``error``; empty within the tolerance."""
    if error <= tolerance:  # false for NaN
        return ""
    return f"{what} computes other logits for the golden images: off by {error:.3g}, allowed are {tolerance:.3g}"
