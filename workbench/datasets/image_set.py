"""A set of images with labels, ready to be normalised."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..digests import digest
from ..errors import refuse_unless
from ..records import Preprocessing
from .preprocessing import check_pixels, normalise


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
        source: the name or path of the data set, from which other splits can be read.
    """

    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    name: str
    preprocessing: Preprocessing
    skipped: tuple[str, ...] = ()
    source: str = ""

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
        """A digest of pixels and labels. It is part of the digest of every artefact made from these images."""
        return digest(self.pixels, self.labels)

    @property
    def x(self) -> np.ndarray:
        """The images as the model takes them: normalised float32, in the layout of ``preprocessing``."""
        return normalise(self.pixels, self.preprocessing)


def arrays_of(images, labels=None) -> tuple:
    """Images as a model takes them, and labels: of an image set its own, unless labels are given."""
    if not isinstance(images, ImageSet):
        return images, labels
    return images.x, images.labels if labels is None else labels
