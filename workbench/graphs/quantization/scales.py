"""From a range to a grid of representable numbers: scales and zero points, and weights rounded to them."""

from __future__ import annotations

from typing import NamedTuple

import ml_dtypes
import numpy as np

#: The largest finite number of the 8-bit float with 4 bits of exponent (OCP 8-bit floating point, table 1).
FP8_MAX = 448.0
FLOAT_TYPES = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
FP8 = np.dtype(ml_dtypes.float8_e4m3fn)
#: The first opset whose QuantizeLinear takes 16-bit floats.
HALF_SCALES_OPSET = 19


class Grid(NamedTuple):
    """What QuantizeLinear takes: real = scale · (quantized - zero)."""

    scale: np.ndarray
    zero: np.ndarray


def symmetric(amax, largest: float, kind: np.dtype, stored: np.dtype) -> Grid:
    """A grid around zero: ``scale = amax / largest`` (arXiv:2004.09602, equation 8), zero point 0.

    Args:
        amax: the largest magnitude to represent; a scalar, or one per channel.
        largest: the largest magnitude of the quantized type: 127, 64 or 448.
        kind: the quantized type.
        stored: the type in which the file stores the scale.
    """
    amax = np.asarray(amax, np.float64)
    scale = np.where(amax > 0, amax, 1.0) / largest
    return Grid(_round_up(scale, stored), np.zeros(amax.shape, kind))


def asymmetric(low: float, high: float, stored: np.dtype) -> Grid:
    """An unsigned 8-bit grid over ``low`` … ``high``, widened to hold 0 exactly.

    Source: the ONNX specification of DynamicQuantizeLinear.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = _round_up(np.float64((high - low) or 1.0) / 255, stored)
    return Grid(scale, np.clip(np.rint(-low / float(scale)), 0, 255).astype(np.uint8))


def _round_up(scale: np.ndarray, stored: np.dtype) -> np.ndarray:
    """The scale in the type that the file stores, never smaller: numbers at the range's end must not be clipped."""
    rounded = np.asarray(scale).astype(stored)
    tiny = np.asarray(np.finfo(np.float32).tiny if stored == np.float32 else 0, stored)
    too_small = rounded.astype(np.float64) < scale
    return np.maximum(np.where(too_small, np.nextafter(rounded, np.asarray(np.inf, stored)), rounded), tiny)


def quantize_weight(weight: np.ndarray, axis: int, grid: Grid, largest: float) -> np.ndarray:
    """Weights on a per-channel grid, in the grid's type.

    Args:
        weight: float32.
        axis: the axis of the output channels.
        grid: one scale per output channel.
        largest: integers are clipped to ±largest; an 8-bit float is clipped at its largest finite number.
    """
    scaled = np.clip(weight / _along(axis, grid.scale, weight.ndim), -largest, largest)
    return scaled.astype(FP8) if grid.zero.dtype == FP8 else np.rint(scaled).astype(np.int8)


def dequantize_weight(data: np.ndarray, axis: int, grid: Grid) -> np.ndarray:
    """The float32 numbers that weights on a per-channel grid stand for."""
    return data.astype(np.float32) * _along(axis, grid.scale, data.ndim)


def _along(axis: int, scale: np.ndarray, rank: int) -> np.ndarray:
    """Scales in a shape that broadcasts along ``axis``."""
    shape = [1] * rank
    shape[axis] = -1
    return scale.astype(np.float32).reshape(shape)


def channel_amax(weight: np.ndarray, axis: int) -> np.ndarray:
    """The largest magnitude in each slice along ``axis``."""
    return np.abs(weight).max(axis=tuple(i for i in range(weight.ndim) if i != axis % weight.ndim))
