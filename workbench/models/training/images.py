"""The training images: many shapes drawn on all cores, and stored in a file for the next run."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
from collections.abc import Generator
from pathlib import Path

import numpy as np

from ...backends.hardware.cpu import cores
from ...code_version import code_digest
from ...datasets import shapes
from ...digests import digest
from ...files import new_file
from ...progress import Progress, silent

#: Images drawn by one task of the process pool.
DRAWN_AT_ONCE = 256


def training_images(count: int, seed: int, size: int, folder: Path, progress: Progress = silent) -> tuple:
    """The first ``count`` images of the training split, drawn once and then read from the folder.

    Returns:
        Pixels (count, size, size, 3) uint8, mapped from the file, and labels (count,) int32.
    """
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
