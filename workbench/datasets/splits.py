"""The three splits of a data set, and how the images of a set without splits are divided among them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

#: The number of each split. It is also part of the random seed of every image in ``shapes``.
SPLITS = {"training": 0, "calibration": 1, "evaluation": 2}
#: The three together: a folder of test images that is used whole.
ALL = "all"


def assign_splits(keys: Iterable[bytes], calibration: float, evaluation: float) -> np.ndarray:
    """Assign each image to a split by a hash of its key alone.

    Images with the same key are in the same split, and an image stays in its split when others are added.

    Args:
        keys: bytes that identify each image's content.
        calibration: share of the images, 0...1.
        evaluation: share of the images, 0...1; training has the rest.

    Returns:
        (M,) numbers of ``SPLITS``.
    """
    hashes = [hashlib.blake2b(key, digest_size=8).digest() for key in keys]
    position = np.frombuffer(b"".join(hashes), np.uint64) / 2.0**64
    splits = np.full(len(position), SPLITS["training"])
    splits[position < calibration + evaluation] = SPLITS["calibration"]
    splits[position < evaluation] = SPLITS["evaluation"]
    return splits
