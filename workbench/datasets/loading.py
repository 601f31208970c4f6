"""From the name or path of a data set to its images."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import WorkbenchError, one_of, path_of, refuse_unless
from ..limits import refuse_beyond_memory
from ..progress import Progress, silent
from ..records import CORRUPTIONS, Preprocessing
from . import shapes
from .corruptions import corrupt
from .image_set import ImageSet
from .input_range import unit_scale_note
from .preprocessing import vit_jax
from .source import Source, Unreadable
from .splits import ALL, SPLITS

#: Images that are read or drawn at once, and between two calls of ``progress``.
CHUNK = 64


def images(
    dataset: str | Path = "shapes",
    split: str = "evaluation",
    count: int | None = 1500,
    seed: int = 0,
    size: int | None = None,
    variant: str = "plain",
    *,
    preprocessing: Preprocessing | None = None,
    progress: Progress = silent,
) -> ImageSet:
    """Images of one split of a data set. The first n images are the same for every ``count`` of n or more.

    Args:
        dataset: ``shapes``; ``cifar10`` (what ``workbench fetch-images cifar10`` downloaded); or a path: a folder
            with one folder per class, CIFAR-10's archive or folder, an .npz or .npy file.
        split: ``training``, ``calibration`` or ``evaluation``; no image is in two of them. ``all`` takes the three
            together, as for a folder that holds test images alone. How copies of an image are treated is described
            in the module of each data set.
        count: how many images; None takes all of the split. ``shapes`` has no end and needs a number.
        seed: chooses the images and their order.
        size: pixels along an edge. None is the size of the data set: 96 for shapes, 32 for CIFAR-10, 224 for
            folders.
        variant: ``plain``, or a corruption for a wrong calibration set: ``dark``, ``noisy``, ``one-class``,
            ``random-noise``.
        preprocessing: how the images are prepared and normalised; None is vit_jax's plain resize to ``size``.
            Labels are indices into its classes, or into the classes of the data set when it has none.
        progress: see ``progress.Progress``; counts images.

    Warns:
        UserWarning: files could not be read and others were taken; ``skipped`` names them. Or mean and std of the
            preprocessing look like torch's, which are for pixels of 0...1.

    Raises:
        WorkbenchError: the data set, split or variant is unknown; the data set has fewer images; it has a class
            that the preprocessing does not name.
    """
    parts = stream(dataset, split, count, seed, size, variant, preprocessing=preprocessing, progress=progress)
    first = replace(next(parts), source=str(dataset))
    if preprocessing is not None and (note := unit_scale_note(preprocessing)):
        warnings.warn(note, stacklevel=2)
    if count is None:
        found = [first, *parts]
        pixels, labels = (np.concatenate([getattr(part, name) for part in found]) for name in ("pixels", "labels"))
        return replace(first, pixels=pixels, labels=labels, skipped=sum((part.skipped for part in found), ()))
    size_of_all = count * math.prod(first.pixels.shape[1:])
    refuse_beyond_memory(size_of_all, f"{count:,} images do not fit in memory", "ask for fewer, or use stream()")
    pixels, labels = np.empty((count, *first.pixels.shape[1:]), np.uint8), np.empty(count, np.int64)
    filled, skipped = 0, []
    for part in itertools.chain([first], parts):
        rows = slice(filled, filled + len(part))
        pixels[rows], labels[rows] = part.pixels, part.labels
        filled += len(part)
        skipped += part.skipped
    return replace(first, pixels=pixels, labels=labels, skipped=tuple(skipped))


def stream(
    dataset: str | Path = "shapes",
    split: str = "evaluation",
    count: int | None = 1500,
    seed: int = 0,
    size: int | None = None,
    variant: str = "plain",
    *,
    preprocessing: Preprocessing | None = None,
    progress: Progress = silent,
) -> Iterator[ImageSet]:
    """The images that ``images`` gives, in parts of up to 64, so that memory does not grow with ``count``."""
    one_of("split", split, (*SPLITS, ALL))
    one_of("variant", variant, CORRUPTIONS)
    for name, value, least in (("count", count, 1), ("seed", seed, 0)):
        refuse_unless(
            (name == "count" and value is None) or (isinstance(value, int | np.integer) and value >= least),
            f"{name} must be a whole number of {least} or more",
            why=f"it is {value!r}",
            remedy=f"give {name} as an integer" + (", or None for all images" if name == "count" else ""),
        )
    refuse_unless(
        preprocessing is None or size in (None, preprocessing.size),
        "Two sizes were given",
        why=f"size is {size} and the preprocessing has {preprocessing and preprocessing.size}",
        remedy="give only one of them",
    )
    one_class = variant == "one-class"
    if dataset == "shapes":
        number = _number_of_shapes(split, count)
        preparation = preprocessing or vit_jax(shapes.SIZE if size is None else size)
        parts = _draw_shapes(split, number, seed, one_class, preparation, progress)
    else:
        source = open_source(dataset)
        preparation = preprocessing or vit_jax(source.size if size is None else size)
        parts = _read_source(source, dataset, split, count, seed, one_class, preparation, progress)
    return parts if variant == "plain" else corrupt(parts, variant, seed)


def _number_of_shapes(split: str, count: int | None) -> int:
    if count is None or split == ALL:
        raise WorkbenchError(
            "shapes cannot be taken whole",
            why=f"its images are drawn without end, each split its own; split is {split!r} and count {count}",
            remedy="give a number of images, and one of the splits training, calibration and evaluation",
        )
    return count


def open_source(dataset: str | Path) -> Source:
    """The finite data set with this name or at this path; the module that reads it is imported here.

    Raises:
        WorkbenchError: there is no such name or path, or the files are broken.
    """
    if dataset == "cifar10":
        from .cifar10 import open_cifar10
        from .published import downloaded_images

        return open_cifar10(downloaded_images("cifar10"))
    path = path_of("A data set", dataset).expanduser()
    if path.is_dir() and str(dataset):  # no name is not the current folder
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


def _draw_shapes(
    split: str, count: int, seed: int, one_class: bool, preprocessing: Preprocessing, progress: Progress
) -> Iterator[ImageSet]:
    step = len(shapes.CLASSES) if one_class else 1
    indices = range(0, count * step, step)
    for start in range(0, count, CHUNK):
        chunk = indices[start : start + CHUNK]
        pixels, labels = shapes.generate(chunk, split=split, seed=seed, size=preprocessing.size)
        progress("Drawing shapes", min(start + CHUNK, count), count)
        yield _image_set(f"shapes/{split}", shapes.CLASSES, pixels, labels, preprocessing)


def _read_source(
    source: Source,
    dataset: str | Path,
    split: str,
    count: int | None,
    seed: int,
    one_class: bool,
    preprocessing: Preprocessing,
    progress: Progress,
) -> Iterator[ImageSet]:
    members = np.flatnonzero(
        (source.splits == SPLITS[split]) if split != ALL else np.ones(len(source.splits), bool)
    )
    what = f"the {split} split of {dataset}"
    if one_class and len(members):
        label = np.bincount(source.labels[members]).argmax()
        members, what = members[source.labels[members] == label], f"class {source.classes[label]} in {what}"
    whole, count = count is None, len(members) if count is None else count
    _refuse_fewer(len(members), max(count, 1), what, f"of {len(source.labels)} in the whole set")
    order = np.random.default_rng([seed, SPLITS.get(split, len(SPLITS))]).permutation(members)
    read, skipped, reported = 0, [], 0
    for kept, pixels, broken in _read_in_order(source, order, count, preprocessing):
        read += len(kept)
        skipped += broken
        progress("Reading images", read, count)
        if kept:
            new, reported = tuple(skipped[reported:]), len(skipped)
            name = f"{Path(dataset).name}/{split}"
            yield _image_set(name, source.classes, np.stack(pixels), source.labels[kept], preprocessing, new)
    if skipped:
        warnings.warn(f"{len(skipped)} images of {dataset} were skipped: {'; '.join(skipped)}", stacklevel=3)
    _refuse_fewer(
        read, 1 if whole else count, what, f"that can be read, and {len(skipped)} that cannot: {'; '.join(skipped)}"
    )


def _read_in_order(
    source: Source, order: np.ndarray, count: int, preprocessing: Preprocessing
) -> Iterator[tuple[list[int], list[np.ndarray], list[str]]]:
    """Read until ``count`` images are read: for each chunk the indices, their pixels, and the files skipped."""
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


def _refuse_fewer(available: int, count: int, what: str, beside: str) -> None:
    refuse_unless(
        available >= count,
        f"{count} images were asked for, more than there are",
        why=f"{what} has {available} images {beside}",
        remedy=f"ask for at most {available}" if available else "take another split, or add images",
    )


def _image_set(
    name: str,
    classes: tuple[str, ...],
    pixels: np.ndarray,
    labels: np.ndarray,
    preprocessing: Preprocessing,
    skipped: tuple[str, ...] = (),
) -> ImageSet:
    """An image set with labels as indices into the preprocessing's classes; without these, into its own."""
    wanted = preprocessing.classes
    if not wanted:
        return ImageSet(pixels, labels, classes, name, replace(preprocessing, classes=classes), skipped)
    strange = [c for c in classes if wanted.count(c) != 1]
    refuse_unless(
        not strange,
        f"{name} has classes that the model does not know",
        why=f"{', '.join(strange[:5])} are not listed once among the {len(wanted)} classes of the preprocessing",
        remedy="name the folders as the model's classes, or give a preprocessing without classes",
    )
    new_labels = np.array([wanted.index(c) for c in classes], np.int64)
    return ImageSet(pixels, new_labels[labels], wanted, name, preprocessing, skipped)
