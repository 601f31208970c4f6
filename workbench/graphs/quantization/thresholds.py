"""Where each calibration method clips a tensor, computed from the histogram of its magnitudes."""

from __future__ import annotations

import numpy as np

#: TensorRT's entropy calibrator merges the histogram into this many levels.
LEVELS = 128
#: The share of values that a percentile range covers; arXiv:2004.09602 compares 99.9 to 99.9999 %.
PERCENTILE = 99.99
#: Clipping points tried by entropy and mse; more change a threshold by less than 1 %.
CANDIDATES = 100
#: The count that an empty bin is given, see ``_smoothed``.
EMPTY = 1e-4


def percentile(counts: np.ndarray, width: float, amax: float) -> float:
    """The magnitude below which ``PERCENTILE`` per cent of the values lie."""
    total = np.cumsum(counts)
    place = np.searchsorted(total, PERCENTILE / 100 * total[-1])
    return float(min(amax, (place + 1) * width))


def entropy(counts: np.ndarray, width: float, amax: float) -> float:
    """The clipping point whose 128 levels lose the least information, by Kullback-Leibler divergence.

    What TensorRT's IInt8EntropyCalibrator2 does (S. Migacz, "8-bit inference with TensorRT", GTC 2017): clip the
    reference distribution, with the clipped mass in its last bin; merge the unclipped bins into 128 levels and
    spread each level over those of its bins that are not empty; compare.
    """
    if len(counts) <= LEVELS:
        return amax
    ends = np.linspace(LEVELS, len(counts), CANDIDATES).astype(int)
    best = min(ends[::-1], key=lambda end: _divergence(counts, end))
    return amax if best == len(counts) else float(best * width)


def _divergence(counts: np.ndarray, end: int) -> float:
    """KL(clipped || merged to 128 levels), in nats."""
    inside = counts[:end].astype(np.float64)
    starts = np.linspace(0, end, LEVELS, endpoint=False).astype(int)
    filled = inside > 0
    sums, members = np.add.reduceat(inside, starts), np.add.reduceat(filled.astype(np.int64), starts)
    level = np.divide(sums, members, out=np.zeros(LEVELS), where=members > 0)
    merged = np.repeat(level, np.diff(np.append(starts, end))) * filled
    inside[-1] += counts[end:].sum()
    clipped, merged = _smoothed(inside), _smoothed(merged)
    p, q = clipped / clipped.sum(), merged / merged.sum()
    return float(np.sum(p * np.log(p / q)))


def _smoothed(counts: np.ndarray) -> np.ndarray:
    """Give empty bins a ten-thousandth of a count, taken from the others, as MXNet and ONNX Runtime do.

    Else the divergence would be infinite where one outlier is clipped into an empty last bin, and nothing would
    ever be clipped.
    """
    empty = counts == 0
    taken = EMPTY * empty.sum() / max(1, (~empty).sum())
    return np.where(empty, EMPTY, counts - taken)


def mse(counts: np.ndarray, width: float, amax: float) -> float:
    """The clipping point with the least mean squared error after rounding to ±127 steps."""
    candidates = amax * np.linspace(1, 0.05, CANDIDATES)
    return amax and float(min(candidates, key=lambda threshold: squared_error(counts, width, threshold)))


def squared_error(counts: np.ndarray, width: float, threshold: float, steps: float = 127) -> float:
    """Sum of squared errors when each value is clipped and rounded to a multiple of ``threshold / steps``.

    A value is taken to lie in the middle of its bin.
    """
    held = np.flatnonzero(counts)
    values, step = (held + 0.5) * width, threshold / steps
    rounded = np.minimum(np.rint(values / step), steps) * step
    return float(np.sum(counts[held] * (values - rounded) ** 2))
