"""Images in NumPy files: one .npz with ``images`` and ``labels``, or NAME.npy beside NAME_labels.npy."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..errors import WorkbenchError, refuse_unless
from ..records import Preprocessing
from .preprocessing import check_pixels, prepare
from .source import Source, share_out


def open_arrays(file: Path) -> Source:
    """The images of an .npz or .npy file.

    ``images`` is (N, H, W, 3) uint8, ``labels`` (N,) whole numbers; an .npz may have ``classes``, names as an array
    of strings. Without them classes are named by their numbers. The splits (60 % training, 10 % calibration, 30 %
    evaluation) go by a hash of each image's pixels, so that equal images stay in one split.

    Raises:
        WorkbenchError: the file cannot be read, lacks an array, or an array has another type or shape.
    """
    found = _npz(file) if file.suffix == ".npz" else _npy(file)
    pixels, labels = found["images"], found["labels"]
    check_pixels(pixels)
    refuse_unless(
        labels.shape == (len(pixels),) and labels.dtype.kind in "iu" and labels.min() >= 0,
        f"The labels in {file.name} do not fit its images",
        why=f"there are {len(pixels)} images; labels have shape {labels.shape} and type {labels.dtype}",
        remedy="give one whole number of 0 or more for each image",
    )
    classes = found.get("classes", np.arange(labels.max() + 1))
    splits = share_out((np.ascontiguousarray(image).tobytes() for image in pixels), calibration=0.1, evaluation=0.3)
    return of_pixels(tuple(map(str, classes)), pixels, labels, splits)


def of_pixels(classes: tuple[str, ...], pixels: np.ndarray, labels: np.ndarray, splits: np.ndarray) -> Source:
    """A source of images that are in memory, or mapped into it."""

    def read(indices: Sequence[int], preprocessing: Preprocessing) -> Iterator[np.ndarray]:
        return (prepare(pixels[i], preprocessing) for i in indices)

    return Source(classes, labels.astype(np.int64), splits, min(pixels.shape[1:3]), read)


def _npz(file: Path) -> dict[str, np.ndarray]:
    with _refusals(file), open(file, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
        names = set(archive.files)
        refuse_unless(
            {"images", "labels"} <= names,
            f"{file.name} is no image set",
            why=f"it needs the arrays images and labels, and has {', '.join(sorted(names)) or 'none'}",
            remedy="write it with numpy.savez(NAME, images=..., labels=...)",
        )
        return {name: archive[name] for name in names & {"images", "labels", "classes"}}


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
        with _refusals(path):
            found[name] = np.load(path, mmap_mode="r", allow_pickle=False)
    return found


@contextlib.contextmanager
def _refusals(file: Path):
    """Turn what NumPy raises for a broken file into a refusal that names it."""
    try:
        yield
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise WorkbenchError(
            f"{file} cannot be read",
            why=str(error) or type(error).__name__,
            remedy="write it again with numpy.savez or numpy.save, without object arrays",
        ) from error
