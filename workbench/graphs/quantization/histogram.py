"""A histogram of fixed size over a stream of activations whose range is not known beforehand."""

from __future__ import annotations

import math

import numpy as np

#: Bins on each side of zero. The reach is a power of two, so at least half of them lie within the largest value.
BINS = 4096
#: Values counted at once, so that the temporaries stay in a core's cache.
CHUNK = 1 << 16


class Histogram:
    """Counts of values in ``2 * BINS`` equal bins over ``-reach … reach``, and the exact extremes.

    When a value lies beyond the reach, the reach doubles and neighbouring bins are merged, so no earlier value is
    needed again, and the result does not depend on how the stream was cut.
    """

    def __init__(self):
        self.counts = np.zeros(2 * BINS, np.int64)
        self.reach = 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, values: np.ndarray) -> None:
        """Count float32 values.

        Raises:
            ValueError: one of them is NaN or infinite; nothing was counted.
        """
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("NaN" if math.isnan(low) or math.isnan(high) else "infinity")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._grow(max(-low, high))
        if self.reach == 0:  # nothing but zeros so far
            self.counts[BINS] += values.size
            return
        flat = values.ravel()
        for start in range(0, flat.size, CHUNK):
            places = flat[start : start + CHUNK] * np.float32(BINS / self.reach)  # exact: a power of two
            np.floor(places, out=places)
            places += BINS
            counts = np.bincount(places.astype(np.intp), minlength=2 * BINS + 1)
            counts[-2] += counts[-1]  # the reach itself
            self.counts += counts[:-1]

    def _grow(self, magnitude: float) -> None:
        if magnitude <= self.reach:
            return
        if self.reach == 0:
            self.reach = _power_of_two(magnitude)
        while magnitude > self.reach:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[:] = 0
            self.counts[BINS // 2 : BINS // 2 + BINS] = merged
            self.reach *= 2


def _power_of_two(magnitude: float) -> float:
    """The smallest power of two that is not below the magnitude."""
    fraction, exponent = math.frexp(magnitude)
    return math.ldexp(1.0, exponent - (fraction == 0.5))


def magnitudes(counts: np.ndarray, reach: float, amax: float) -> tuple[np.ndarray, float]:
    """The histogram of absolute values, cut after the bin that holds the largest.

    Returns:
        Counts, and the width of a bin.
    """
    folded, width = counts[BINS:] + counts[:BINS][::-1], reach / BINS
    used = min(BINS, math.floor(amax / width) + 1) if width else 1
    return folded[:used], width
