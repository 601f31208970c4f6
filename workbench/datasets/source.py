"""What a finite data set must tell so that images can be drawn from it, and how its images are shared out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..records import Preprocessing

#: Part of each image's random stream in ``shapes``, and the number of its split everywhere.
SPLITS = {"training": 0, "calibration": 1, "evaluation": 2}


class Unreadable(NamedTuple):
    """An image that cannot be read, and why."""

    name: str
    reason: str


class Source(NamedTuple):
    """A data set that lies somewhere.

    Attributes:
        classes: names of the classes.
        labels: (M,) int64.
        splits: (M,) numbers of ``SPLITS``.
        size: pixels along an edge to prepare images to, where nobody asks for a size.
        read: takes indices and a preprocessing, gives one prepared image (size, size, 3) uint8 for each, or
            ``Unreadable``.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    splits: np.ndarray
    size: int
    read: Callable[[Sequence[int], Preprocessing], Iterable[np.ndarray | Unreadable]]


def share_out(keys: Iterable[bytes], calibration: float, evaluation: float) -> np.ndarray:
    """Put each image into a split by a hash of its key, whatever else is in the set.

    Images with the same key land in the same split, and adding images moves none of the others.

    Args:
        keys: bytes that identify each image's content.
        calibration: share of the images, 0...1.
        evaluation: share of the images, 0...1; training has the rest.

    Returns:
        (M,) numbers of ``SPLITS``.
    """
    hashes = [hashlib.blake2b(key, digest_size=8).digest() for key in keys]
    place = np.frombuffer(b"".join(hashes), np.uint64) / 2.0**64
    splits = np.full(len(place), SPLITS["training"])
    splits[place < calibration + evaluation] = SPLITS["calibration"]
    splits[place < evaluation] = SPLITS["evaluation"]
    return splits
