"""About how many images or calls would decide what a sample cannot tell."""

from __future__ import annotations

import math
from statistics import NormalDist

from .intervals import Z
from .verdict import Interval

#: The share of samples of the size named that would decide.
POWER = 0.8


def sample_to_decide(estimate: float, interval: Interval, limit: float, sample: int) -> int | None:
    """The size at which the interval would leave out the limit, in four of five samples.

    It supposes that the estimate stays as it is, and that the interval narrows with the square root of the size.

    Args:
        estimate: what was estimated, such as the points lost.
        interval: its 95 % interval.
        limit: what the interval must leave out.
        sample: the size of the sample that gave them.

    Returns:
        The size, or None where the estimate lies on the limit, so that no sample decides.
    """
    distance = abs(limit - estimate)
    if distance == 0:
        return None
    low, high = interval
    reach = high - estimate if estimate < limit else estimate - low
    return math.ceil(sample * (reach / distance * (Z + NormalDist().inv_cdf(POWER)) / Z) ** 2)


def images_to_tell_apart(only_a: int, only_b: int, images: int) -> int | None:
    """Images after which McNemar's test would decide in four of five cases (Connor, 1987, Biometrics 43:207-211).

    It supposes that the shares of images that only one model classifies correctly stay as they were observed; None
    when they are equal.
    """
    if only_a == only_b:
        return None
    disagree, difference = (only_a + only_b) / images, abs(only_a - only_b) / images
    spread = Z * math.sqrt(disagree) + NormalDist().inv_cdf(POWER) * math.sqrt(max(0.0, disagree - difference**2))
    return math.ceil((spread / difference) ** 2)
