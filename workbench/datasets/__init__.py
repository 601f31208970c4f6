"""Images and labels: generated shapes, folders, CIFAR-10, NumPy files, and how they are prepared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..errors import one_of, refuse_unless
from ..records import SHIFTS, Preprocessing
from ..workspace import digest
from . import shapes
from .preprocessing import check_pixels, normalise
from .shapes import SPLITS

__all__ = ["SPLITS", "ImageSet", "images", "normalise"]


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
    dataset: str = "shapes",
    split: str = "evaluation",
    count: int = 1500,
    seed: int = 0,
    size: int | None = None,
    variant: str = "plain",
) -> ImageSet:
    """Images of one split of a data set.

    Args:
        dataset: ``shapes``.
        split: ``training``, ``calibration`` or ``evaluation``. No image is in two of them.
        count: how many images.
        seed: which scenes are drawn.
        size: pixels along an edge; None is 96.
        variant: ``plain``, or a shifted set to calibrate wrongly with: ``dark``, ``noisy``, ``one-class``,
            ``random-noise``.

    Raises:
        WorkbenchError: an unknown data set, split or variant.
    """
    one_of("split", split, tuple(SPLITS))
    one_of("variant", variant, SHIFTS)
    one_of("data set", dataset, ("shapes",))
    refuse_unless(count > 0, "There are no images", why=f"count is {count}", remedy="ask for one or more")
    step = len(shapes.CLASSES) if variant == "one-class" else 1
    pixels, labels = shapes.generate(range(0, count * step, step), split=split, seed=seed, size=size or shapes.SIZE)
    plain = ImageSet(
        pixels,
        labels,
        shapes.CLASSES,
        f"{dataset}/{split}",
        Preprocessing(size=pixels.shape[1], classes=shapes.CLASSES),
    )
    return plain if variant in ("plain", "one-class") else _shift(plain, variant, seed)


def _shift(plain: ImageSet, variant: str, seed: int) -> ImageSet:
    """A set whose pixels are changed one image at a time, so that a longer set begins with the shorter one."""
    shifts = {
        "dark": lambda pixels, rng: pixels // 5,
        "noisy": lambda pixels, rng: (pixels + rng.normal(0, 50, pixels.shape)).clip(0, 255).astype(np.uint8),
        "random-noise": lambda pixels, rng: rng.integers(0, 256, pixels.shape, np.uint8),
    }
    shift, key = shifts[variant], SHIFTS.index(variant)
    pixels = np.stack([shift(p, np.random.default_rng([seed, key, i])) for i, p in enumerate(plain.pixels)])
    return replace(plain, pixels=pixels, name=f"{plain.name}/{variant}")
