"""Do images look like a model's input? Normalised pixels lie within a few units of zero, and are not all alike.

The usual mistakes are of scale: mean and std of torch's transforms are on 0...1, those of ``Preprocessing`` on
0...255; pixels that were not normalised at all; and floats of 0...1 taken for pixels. Each costs most of the
accuracy without an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..records import Preprocessing

#: Published preprocessings reach 2.8 (ImageNet's mean and std); those of other data sets stay below this.
LARGEST = 16.0
#: The standard deviation of normalised photographs is about 1; of floats of 0...1 taken for pixels 0.002.
LEAST_SPREAD = 0.02


class Reading(NamedTuple):
    """Another way in which images may have been meant: what is wrong then, what to do, and the images so made."""

    mistake: str
    remedy: str
    images: np.ndarray


def unusual_range(images: np.ndarray) -> str:
    """What is unusual about the values of images (N, H, W, 3), normalised; empty where nothing is."""
    low, high, spread = float(images.min()), float(images.max()), float(images.std())
    found = f"the images' values lie in {low:.3g} … {high:.3g}, with a standard deviation of {spread:.2g}"
    if max(-low, high) > LARGEST:
        return f"{found}, and normalised images within about ±3"
    if spread < LEAST_SPREAD and len(images) > 1:
        return f"{found}, and normalised images vary by about 1"
    return ""


def on_unit_scale(preprocessing: Preprocessing) -> bool:
    """Whether mean and std look like torch's, which are for pixels of 0...1."""
    return max(preprocessing.mean) <= 1 and max(preprocessing.std) <= 1


def from_unit_scale(preprocessing: Preprocessing) -> Preprocessing:
    """The same preprocessing for pixels of 0...255, from one with torch's mean and std, which are for 0...1."""
    mean, std = (tuple(255 * value for value in values) for values in (preprocessing.mean, preprocessing.std))
    return replace(preprocessing, mean=mean, std=std)


def unit_scale_note(preprocessing: Preprocessing) -> str:
    """What to do about a mean and std on torch's scale; empty where they are not."""
    if not on_unit_scale(preprocessing):
        return ""
    right = from_unit_scale(preprocessing)
    mean, std = (", ".join(f"{value:.5g}" for value in values) for values in (right.mean, right.std))
    return (
        "mean and std are on torch's 0…1 scale, and are subtracted from pixels of 0…255: give"
        f" workbench.datasets.input_range.from_unit_scale(preprocessing), mean ({mean}), std ({std})"
    )


def other_readings(images: np.ndarray, preprocessing: Preprocessing) -> Iterator[Reading]:
    """The usual mistakes that would explain images (N, H, W, 3), each with the images as they should be then."""
    mean, std = (np.asarray(values, np.float32) for values in (preprocessing.mean, preprocessing.std))
    pixels = images * std + mean
    found = []
    if on_unit_scale(preprocessing):
        right = from_unit_scale(preprocessing)
        scaled = (pixels - np.asarray(right.mean, np.float32)) / np.asarray(right.std, np.float32)
        found.append(Reading("mean and std on the 0…1 scale", unit_scale_note(preprocessing), scaled))
    elif images.min() >= 0 and images.max() <= 255:
        again = "normalise them: workbench.normalise(pixels, graph.preprocessing)"
        found.append(Reading("pixels that were not normalised", again, (images - mean) / std))
    if pixels.min() >= -0.5 and pixels.max() <= 1.5:
        times = "multiply pixels of 0…1 by 255 before they are normalised"
        found.append(Reading("pixels of 0…1 taken for 0…255", times, (255 * pixels - mean) / std))
    yield from (reading for reading in found if not unusual_range(reading.images))
