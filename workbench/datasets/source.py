"""A finite data set on the disk or in memory: its classes, labels and splits, and how its images are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..records import Preprocessing
from .preprocessing import prepare


class Unreadable(NamedTuple):
    """An image that cannot be read, and why."""

    name: str
    reason: str


class Source(NamedTuple):
    """A finite data set.

    Attributes:
        classes: names of the classes.
        labels: (M,) int64.
        splits: (M,) numbers of ``splits.SPLITS``.
        size: pixels along an edge to which images are prepared when the caller names no size.
        read: takes indices and a preprocessing; gives for each index a prepared image (size, size, 3) uint8, or
            ``Unreadable``.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    splits: np.ndarray
    size: int
    read: Callable[[Sequence[int], Preprocessing], Iterable[np.ndarray | Unreadable]]


def source_of_pixels(
    classes: tuple[str, ...], pixels: np.ndarray, labels: np.ndarray, splits: np.ndarray
) -> Source:
    """A source of images (M, H, W, 3) uint8 that lie in memory or in a memory-mapped file."""

    def read(indices: Sequence[int], preprocessing: Preprocessing) -> Iterator[np.ndarray]:
        return (prepare(pixels[i], preprocessing) for i in indices)

    return Source(classes, labels.astype(np.int64), splits, min(pixels.shape[1:3]), read)
