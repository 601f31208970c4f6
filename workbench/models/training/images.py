"""The training images: read from a data set, or shapes drawn on all cores and stored in a file for the next run."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
from collections.abc import Generator
from pathlib import Path

import numpy as np

from ... import datasets
from ...backends.hardware.cpu import cores
from ...code_version import code_digest
from ...datasets import shapes
from ...digests import digest
from ...errors import refuse_unless
from ...files import new_file
from ...progress import Progress, silent
from ...records import ModelSpec
from .plan import Plan

#: Images drawn by one task of the process pool.
DRAWN_AT_ONCE = 256


def training_images(plan: Plan, folder: Path, progress: Progress = silent) -> tuple:
    """The first images of the training split of the plan's data set, at the size of its model.

    Returns:
        Pixels (images, size, size, 3) uint8, and labels (images,) int32. Shapes are drawn once into the folder and
        then mapped from there.

    Raises:
        WorkbenchError: the data set is not there, has fewer images or another number of classes.
    """
    if plan.data == "shapes":
        return _drawn_once(plan.images, plan.seed, plan.spec.image_size, folder, progress)
    found = labelled(plan.data, "training", plan.images, plan.seed, plan.spec, progress)
    return found.pixels, found.labels.astype(np.int32)


def labelled(
    data: str, split: str, count: int | None, seed: int, spec: ModelSpec, progress: Progress = silent
) -> datasets.ImageSet:
    """Images of a data set on the disk, at the size of a model that must have as many classes."""
    found = datasets.images(data, split, count, seed, spec.image_size, progress=progress)
    refuse_unless(
        len(found.classes) == spec.classes,
        f"{spec.name} has the wrong number of classes for {data}",
        why=f"it has {spec.classes}, {data} has {len(found.classes)}",
        remedy=f"give classes={len(found.classes)}",
    )
    return found


def _drawn_once(count: int, seed: int, size: int, folder: Path, progress: Progress) -> tuple:
    key = digest(count, seed, size, code_digest(shapes.__name__))
    pixels_path, labels_path = folder / f"images-{key}.npy", folder / f"labels-{key}.npy"
    if not (pixels_path.exists() and labels_path.exists()):
        with new_file(pixels_path) as pixels_partial, new_file(labels_path) as labels_partial:
            shape = (count, size, size, 3)
            pixels = np.lib.format.open_memmap(pixels_partial, mode="w+", dtype=np.uint8, shape=shape)
            labels = draw("training", seed, pixels, progress)
            pixels.flush()
            with open(labels_partial, "wb") as file:
                np.save(file, labels)
    return np.load(pixels_path, mmap_mode="r"), np.load(labels_path)


def draw(split: str, seed: int, pixels: np.ndarray, progress: Progress = silent) -> np.ndarray:
    """Fill ``pixels`` (N, size, size, 3) with the first N shapes of a split, on all cores.

    Returns:
        Labels (N,) int32.
    """
    count, size = pixels.shape[:2]
    ranges = [range(start, min(start + DRAWN_AT_ONCE, count)) for start in range(0, count, DRAWN_AT_ONCE)]
    labels = np.empty(count, np.int32)
    task = functools.partial(shapes.generate, split=split, seed=seed, size=size)
    with _one_thread_each(), contextlib.ExitStack() as stack:
        results = map(task, ranges)
        if len(ranges) > 1:
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(min(cores(), len(ranges))))
            results = pool.imap(task, ranges)
        for indices, (drawn, classes) in zip(ranges, results):
            pixels[indices.start : indices.stop], labels[indices.start : indices.stop] = drawn, classes
            progress(f"drawing {split} images", indices.stop, count)
    return labels


@contextlib.contextmanager
def _one_thread_each() -> Generator[None]:
    """Processes that start inside use one thread of NumPy's BLAS: the pool has a process for each core already."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
