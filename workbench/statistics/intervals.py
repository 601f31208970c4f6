"""95 % intervals of differences in accuracy and of latencies.

Wilson's interval of a single share is ``records.wilson``: it belongs to a ``Measurement``, which also exists on
hosts without SciPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from ..records import Window
from .verdict import Interval

CONFIDENCE = 0.95
#: The standard normal quantile of that confidence, two-sided: 1.96.
Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
#: A run is cut into this many stretches of successive calls, because calls next to each other are alike.
STRETCHES = 25


def discordant_pairs(a_correct: np.ndarray, b_correct: np.ndarray) -> tuple[int, int]:
    """On how many images only the first model is correct, and on how many only the second.

    Args:
        a_correct: whether the first model classifies each image correctly, booleans (N,).
        b_correct: the same of the second model.
    """
    return int((a_correct & ~b_correct).sum()), int((b_correct & ~a_correct).sum())


def paired_interval(only_a: int, only_b: int, images: int) -> Interval:
    """Tango's score interval for the difference of two shares that were measured on the same images.

    Its ends are the supposed differences from which the observed one is 1.96 standard deviations away (Tango, 1998,
    Statistics in Medicine 17:891-908).

    Args:
        only_a: images that only the first model classifies correctly.
        only_b: images that only the second one does.
        images: images in all.

    Returns:
        Lower and upper end of the first share minus the second, -1...1.
    """
    from scipy import optimize  # here, so that a panel does not wait for SciPy's import

    difference = (only_a - only_b) / images
    # At the observed difference itself the deviation can be 0, which is no end of the interval: search beside it.
    beside = 1e-9

    def beyond(sign: int):
        return lambda supposed: (
            images * (difference - supposed) - sign * Z * _deviation(only_a, only_b, images, supposed)
        )

    low = optimize.brentq(beyond(1), -1.0, max(difference - beside, -1.0)) if only_b < images else -1.0
    high = optimize.brentq(beyond(-1), min(difference + beside, 1.0), 1.0) if only_a < images else 1.0
    return low, high


def _deviation(only_a: int, only_b: int, n: int, difference: float) -> float:
    """Standard deviation of ``only_a - only_b`` if the true difference of the shares were ``difference``.

    ``share`` is the most likely share of images that only the second classifies correctly, given that difference
    (Tango, 1998, section 3).
    """
    half = (2 * n - only_a + only_b) * difference - only_a - only_b
    root = math.sqrt(max(0.0, half**2 + 8 * n * only_b * difference * (1 - difference)))
    share = (root - half) / (4 * n)
    return math.sqrt(max(0.0, n * (2 * share + difference * (1 - difference))))


def signed_rank_interval(differences: np.ndarray) -> tuple[float, Interval]:
    """The middle of paired differences, and its interval from Wilcoxon's signed ranks.

    The estimate is ``middle``. The interval leaves out zero when Wilcoxon's test (1945, Biometrics Bulletin
    1:80-83) rejects it, in its normal approximation. Of the noise the test needs only that, where nothing differs,
    the signs are independent and equally likely. Timing in random order within each pair makes them so.

    Args:
        differences: (N,), N of 6 or more: fewer reject nothing with 95 % confidence.
    """
    count = len(differences)
    means = np.sort(_means_of_pairs(differences))
    deviation = math.sqrt(count * (count + 1) * (2 * count + 1) / 24)
    outside = max(0, math.floor(len(means) / 2 - Z * deviation - 0.5))
    return float(np.median(means)), (float(means[outside]), float(means[-1 - outside]))


def middle(values: np.ndarray) -> float:
    """The median of the means of every two values (Hodges and Lehmann, 1963, Annals of Mathematical Statistics
    34:598-611): near the mean where nothing is far out, and hardly moved by what is.
    """
    return float(np.median(_means_of_pairs(values)))


def _means_of_pairs(values: np.ndarray) -> np.ndarray:
    """The means of all pairs of values, each with itself too, (N (N + 1) / 2,)."""
    first, second = np.triu_indices(len(values))
    return (values[first] + values[second]) / 2


def stretch_medians(seconds: Sequence[float], stretches: int = STRETCHES) -> np.ndarray:
    """Medians of that many stretches of successive calls, or of single calls where there are fewer; seconds."""
    parts = np.array_split(np.asarray(seconds), min(len(seconds), stretches))
    return np.array([np.median(part) for part in parts])


def latency_range(seconds: Sequence[float]) -> Interval:
    """Between which medians the latency of a run varied: the middle 95 % of its stretches, seconds.

    Calls next to each other are alike, so that an interval which takes them for independent would be too narrow.
    """
    low, high = np.quantile(stretch_medians(seconds), [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return float(low), float(high)


def throughput_range(window: Window) -> Interval:
    """Between which rates a run varied: the middle 95 % of its stretches, in calls per second.

    The rate of the whole window is always inside: one very slow stretch may draw it below all others.
    """
    low, high = np.quantile(window.rates, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return min(float(low), window.calls_per_second), max(float(high), window.calls_per_second)
