"""Images in NumPy files: one .npz with ``images`` and ``labels``, or NAME.npy beside NAME_labels.npy."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path

import numpy as np

from ..errors import WorkbenchError, refuse_unless
from .npz import array_names, read_npz
from .preprocessing import check_pixels
from .source import Source, source_of_pixels
from .splits import assign_splits

#: More classes than any classifier has.
MOST_CLASSES = 1 << 24


def open_arrays(file: Path) -> Source:
    """The images of an .npz or .npy file.

    ``images`` is (N, H, W, 3) uint8 and ``labels`` is (N,) whole numbers. An .npz may also have ``classes``, names
    as an array of strings; without it, a class is named by its number. A hash of its pixels decides whether an
    image belongs to training (60 %), calibration (10 %) or evaluation (30 %), so equal images are in one split.

    Raises:
        WorkbenchError: the file cannot be read, lacks an array, or an array has another type or shape.
    """
    found = _npz(file) if file.suffix == ".npz" else _npy(file)
    pixels, labels = found["images"], found["labels"]
    check_pixels(pixels)
    refuse_unless(
        labels.shape == (len(pixels),) and labels.dtype.kind in "iu" and 0 <= labels.min() <= MOST_CLASSES,
        f"The labels in {file.name} do not fit its images",
        why=f"there are {len(pixels)} images; labels have shape {labels.shape} and type {labels.dtype}",
        remedy="give one whole number of 0 or more for each image",
    )
    classes = found.get("classes", np.arange(int(labels.max()) + 1))
    refuse_unless(
        classes.ndim == 1 and classes.dtype.kind in "Uiu" and len(classes) > labels.max(),
        f"The classes in {file.name} do not fit its labels",
        why=f"they are {classes.dtype} {classes.shape}; labels go to {labels.max()}, beyond the classes",
        remedy="give one name for each class, as an array of text",
    )
    keys = (np.ascontiguousarray(image).tobytes() for image in pixels)
    splits = assign_splits(keys, calibration=0.1, evaluation=0.3)
    return source_of_pixels(tuple(map(str, classes)), pixels, labels, splits)


def _npz(file: Path) -> dict[str, np.ndarray]:
    found = read_npz(file, f"The image set {file.name}", ("images", "labels", "classes"))
    refuse_unless(
        {"images", "labels"} <= set(found),
        f"{file.name} is no image set",
        why=f"it needs the arrays images and labels, and has {', '.join(array_names(file)[:8]) or 'none'}",
        remedy="write it with numpy.savez(NAME, images=..., labels=...)",
    )
    return found


def _npy(file: Path) -> dict[str, np.ndarray]:
    beside = file.with_name(f"{file.stem}_labels.npy")
    refuse_unless(
        beside.exists(),
        f"There are no labels for {file.name}",
        why=f"there is no {beside.name} beside it",
        remedy=f"write the labels with numpy.save({beside.name!r}, labels)",
    )
    found = {}
    for name, path in (("images", file), ("labels", beside)):
        with _errors_of(path):
            found[name] = np.load(path, mmap_mode="r", allow_pickle=False)
    return found


@contextlib.contextmanager
def _errors_of(file: Path) -> Generator[None]:
    """Turn what NumPy raises for a broken file into an error that names the file."""
    try:
        yield
    except Exception as error:  # a damaged header can raise anything, from SyntaxError to MemoryError
        raise WorkbenchError(
            f"{file} cannot be read",
            why=str(error) or type(error).__name__,
            remedy="write it again with numpy.savez or numpy.save, without object arrays",
        ) from error
