"""Corruptions: calibration images unlike the real ones, to see what a wrong calibration set costs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from ..records import CORRUPTIONS
from .image_set import ImageSet

#: What a corruption does to the pixels of one image. ``one-class`` changes no pixels: it chooses the images.
_OF_PIXELS = {
    "dark": lambda pixels, rng: pixels // 5,
    "noisy": lambda pixels, rng: (pixels + rng.normal(0, 50, pixels.shape)).clip(0, 255).astype(np.uint8),
    "random-noise": lambda pixels, rng: rng.integers(0, 256, pixels.shape, np.uint8),
}


def corrupt(parts: Iterable[ImageSet], corruption: str, seed: int) -> Iterator[ImageSet]:
    """Corrupt image sets one after the other. Every image has a random stream of its own.

    Args:
        parts: image sets that follow each other in one data set.
        corruption: one of ``records.CORRUPTIONS``.
        seed: the same seed gives the same images.
    """
    change = _OF_PIXELS.get(corruption, lambda pixels, rng: pixels)
    rngs = (np.random.default_rng([seed, CORRUPTIONS.index(corruption), i]) for i in itertools.count())
    for part in parts:
        pixels = np.stack([change(image, next(rngs)) for image in part.pixels])
        yield replace(part, name=f"{part.name}/{corruption}", pixels=pixels)
