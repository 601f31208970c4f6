"""Images and labels: generated shapes, folders, CIFAR-10, NumPy files, and how they are prepared.

One's own folder, with one folder per class in it, goes in with five lines::

    import workbench as wb
    from workbench.datasets import preprocessing

    mine = wb.images("photos", count=50, preprocessing=preprocessing.vit_jax(224))
    print(mine.classes, mine.pixels.shape, mine.skipped)
    x = mine.x
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..digests import digest
from ..errors import WorkbenchError, one_of, refuse_unless
from ..progress import Progress, silent
from ..records import CORRUPTIONS, Preprocessing
from . import shapes
from .preprocessing import check_pixels, normalise
from .source import SPLITS, Source, Unreadable

__all__ = ["SPLITS", "ImageSet", "images", "normalise", "stream"]

#: Images that are read or drawn at once, and between two calls of ``progress``.
CHUNK = 64


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images that are ready to be normalised, and what they show.

    Attributes:
        pixels: (N, H, W, 3) uint8.
        labels: (N,) int64, indices into ``classes``.
        classes: names of the classes.
        name: where the images come from, for tables: ``shapes/evaluation``.
        preprocessing: how they were prepared, and how ``x`` normalises them.
        skipped: files that could not be read, each with the reason.
    """

    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    name: str
    preprocessing: Preprocessing
    skipped: tuple[str, ...] = ()

    def __post_init__(self):
        check_pixels(self.pixels)
        labels, count = self.labels, len(self.classes)
        refuse_unless(
            isinstance(labels, np.ndarray) and labels.dtype == np.int64 and labels.shape == (len(self.pixels),),
            "Labels must be one int64 for each image",
            why=f"there are {len(self.pixels)} images; labels have shape {np.shape(labels)} "
            f"and type {getattr(labels, 'dtype', type(labels).__name__)}",
            remedy="give np.asarray(labels, np.int64) of the same length",
        )
        refuse_unless(
            labels.min() >= 0 and labels.max() < count,
            "A label lies beyond the classes",
            why=f"labels go from {labels.min()} to {labels.max()} and there are {count} classes",
            remedy="count labels from 0 and name every class",
        )

    def __len__(self) -> int:
        return len(self.pixels)

    @cached_property
    def digest(self) -> str:
        """A digest of pixels and labels: what an artefact that was made from these images depends on."""
        return digest(self.pixels, self.labels)

    @property
    def x(self) -> np.ndarray:
        """The images as the model takes them: normalised float32, in the layout of ``preprocessing``."""
        return normalise(self.pixels, self.preprocessing)


def images(
    dataset: str | Path = "shapes",
    split: str = "evaluation",
    count: int = 1500,
    seed: int = 0,
    size: int | None = None,
    variant: str = "plain",
    *,
    preprocessing: Preprocessing | None = None,
    progress: Progress = silent,
) -> ImageSet:
    """Images of one split of a data set. More of them begin with the same ones as fewer.

    Args:
        dataset: ``shapes``; ``cifar10`` (what ``workbench fetch-images cifar10`` put into the downloads); or a
            path: a folder with one folder per class, CIFAR-10's archive or folder, an .npz or .npy file.
        split: ``training``, ``calibration`` or ``evaluation``. No image is in two of them; each data set's module
            says what that means for copies.
        count: how many images.
        seed: which ones, and in which order.
        size: pixels along an edge; None is the set's own: 96 for shapes, 32 for CIFAR-10, 224 for folders.
        variant: ``plain``, or a shifted set to calibrate wrongly with: ``dark``, ``noisy``, ``one-class``,
            ``random-noise``.
        preprocessing: how the images are prepared and normalised; None is vit_jax's plain resize to ``size``. Where
            it names classes, labels are indices into these; where it names none, the set's own names count.
        progress: see ``progress.Progress``.

    Warns:
        UserWarning: files could not be read and others were taken; ``skipped`` names them.

    Raises:
        WorkbenchError: an unknown data set, split or variant; more images asked for than there are; a class of
            the set that the preprocessing does not know.
    """
    filled, skipped = 0, []
    for part in stream(dataset, split, count, seed, size, variant, preprocessing=preprocessing, progress=progress):
        if not filled:
            pixels, labels = np.empty((count, *part.pixels.shape[1:]), np.uint8), np.empty(count, np.int64)
        place = slice(filled, filled + len(part))
        pixels[place], labels[place] = part.pixels, part.labels
        filled += len(part)
        skipped += part.skipped
    return replace(part, pixels=pixels, labels=labels, skipped=tuple(skipped))


def stream(
    dataset: str | Path = "shapes",
    split: str = "evaluation",
    count: int = 1500,
    seed: int = 0,
    size: int | None = None,
    variant: str = "plain",
    *,
    preprocessing: Preprocessing | None = None,
    progress: Progress = silent,
) -> Iterator[ImageSet]:
    """The same as ``images``, a few at a time: the memory that they take does not depend on how many there are."""
    one_of("split", split, tuple(SPLITS))
    one_of("variant", variant, CORRUPTIONS)
    for name, value, least in (("count", count, 1), ("seed", seed, 0)):
        refuse_unless(
            isinstance(value, int | np.integer) and value >= least,
            f"{name} must be a whole number of {least} or more",
            why=f"it is {value!r}",
            remedy=f"give {name} as an integer",
        )
    refuse_unless(
        preprocessing is None or size in (None, preprocessing.size),
        "Two sizes are asked for",
        why=f"size is {size} and the preprocessing says {preprocessing and preprocessing.size}",
        remedy="give only one of them",
    )
    draw = _draw_shapes if dataset == "shapes" else _draw_stored
    parts = draw(dataset, split, count, seed, size, variant == "one-class", preprocessing, progress)
    return parts if variant == "plain" else _corrupted(parts, variant, seed)


def _corrupted(parts: Iterable[ImageSet], variant: str, seed: int) -> Iterator[ImageSet]:
    corrupt = _CORRUPTIONS.get(variant, lambda pixels, rng: pixels)
    rngs = (np.random.default_rng([seed, CORRUPTIONS.index(variant), i]) for i in itertools.count())
    for part in parts:
        pixels = np.stack([corrupt(image, next(rngs)) for image in part.pixels])
        yield replace(part, name=f"{part.name}/{variant}", pixels=pixels)


#: What a corruption does to each image; the images of ``one-class`` are chosen, not changed.
_CORRUPTIONS = {
    "dark": lambda pixels, rng: pixels // 5,
    "noisy": lambda pixels, rng: (pixels + rng.normal(0, 50, pixels.shape)).clip(0, 255).astype(np.uint8),
    "random-noise": lambda pixels, rng: rng.integers(0, 256, pixels.shape, np.uint8),
}


def _draw_shapes(_, split, count, seed, size, one_class, preprocessing, progress) -> Iterator[ImageSet]:
    preprocessing = preprocessing or Preprocessing(size=shapes.SIZE if size is None else size)
    step = len(shapes.CLASSES) if one_class else 1
    indices = range(0, count * step, step)
    for start in range(0, count, CHUNK):
        pixels, labels = shapes.generate(
            indices[start : start + CHUNK], split=split, seed=seed, size=preprocessing.size
        )
        progress("Drawing shapes", min(start + CHUNK, count), count)
        yield _image_set(f"shapes/{split}", shapes.CLASSES, pixels, labels, preprocessing)


def _draw_stored(dataset, split, count, seed, size, one_class, preprocessing, progress) -> Iterator[ImageSet]:
    source, name = _open(dataset), f"{Path(dataset).name}/{split}"
    preprocessing = preprocessing or Preprocessing(size=source.size if size is None else size)
    members = np.flatnonzero(source.splits == SPLITS[split])
    what = f"the {split} split of {dataset}"
    if one_class and len(members):
        label = np.bincount(source.labels[members]).argmax()
        members, what = members[source.labels[members] == label], f"class {source.classes[label]} in {what}"
    _refuse_fewer(len(members), count, what, f"of {len(source.labels)} in the whole set")
    order = np.random.default_rng([seed, SPLITS[split]]).permutation(members)
    read, skipped, told = 0, [], 0
    for kept, pixels, broken in _read(source, order, count, preprocessing):
        read += len(kept)
        skipped += broken
        progress("Reading images", read, count)
        if kept:
            new, told = tuple(skipped[told:]), len(skipped)
            yield _image_set(name, source.classes, np.stack(pixels), source.labels[kept], preprocessing, new)
    if skipped:
        warnings.warn(f"{len(skipped)} images of {dataset} were skipped: {'; '.join(skipped)}", stacklevel=3)
    _refuse_fewer(read, count, what, f"that can be read, and {len(skipped)} that cannot: {'; '.join(skipped)}")


def _read(source: Source, order: np.ndarray, count: int, preprocessing: Preprocessing):
    """The first ``count`` images in an order that can be read, by chunks: indices, pixels, and what was skipped."""
    done, queue = 0, iter(order.tolist())
    while done < count and (chunk := [*itertools.islice(queue, min(CHUNK, count - done))]):
        kept, pixels, skipped = [], [], []
        for index, image in zip(chunk, source.read(chunk, preprocessing)):
            if isinstance(image, Unreadable):
                skipped.append(f"{image.name} ({image.reason})")
            else:
                pixels.append(image)
                kept.append(index)
        done += len(kept)
        yield kept, pixels, skipped


def _refuse_fewer(there: int, count: int, what: str, beside: str) -> None:
    refuse_unless(
        there >= count,
        f"{count} images were asked for, more than there are",
        why=f"{what} has {there} images {beside}",
        remedy=f"ask for at most {there}" if there else "take another split, or add images",
    )


def _open(dataset: str | Path) -> Source:
    """The data set of a name or at a path. Modules are imported when their kind is asked for."""
    if dataset == "cifar10":
        from .cifar10 import open_downloaded

        return open_downloaded()
    path = Path(dataset).expanduser()
    if path.is_dir():
        from .cifar10 import holds_cifar10, open_cifar10
        from .folders import open_folder

        inner = path / "cifar-10-batches-bin"
        path = inner if inner.is_dir() else path
        return open_cifar10(path) if holds_cifar10(path) else open_folder(path)
    if path.suffix in (".npz", ".npy") and path.is_file():
        from .arrays import open_arrays

        return open_arrays(path)
    if path.suffix in (".gz", ".tgz", ".tar") and path.is_file():
        from .cifar10 import open_cifar10

        return open_cifar10(path)
    raise WorkbenchError(
        f"Unknown data set {str(dataset)!r}",
        why="it is no known name, and " + ("no known kind of file" if path.exists() else "there is no such path"),
        remedy="give 'shapes', 'cifar10', a folder with one folder per class, or a file: CIFAR-10's, .npz or .npy",
    )


def _image_set(name, classes, pixels, labels, preprocessing: Preprocessing, skipped=()) -> ImageSet:
    """An image set whose labels are indices into the classes that the preprocessing names, or the set's own."""
    wanted = preprocessing.classes
    if not wanted:
        return ImageSet(pixels, labels, classes, name, replace(preprocessing, classes=classes), skipped)
    strange = [c for c in classes if wanted.count(c) != 1]
    refuse_unless(
        not strange,
        f"{name} has classes that the model does not know",
        why=f"{', '.join(strange[:5])} stand not once among the {len(wanted)} classes of the preprocessing",
        remedy="name the folders as the model's classes, or give a preprocessing without classes",
    )
    places = np.array([wanted.index(c) for c in classes], np.int64)
    return ImageSet(pixels, places[labels], wanted, name, preprocessing, skipped)
