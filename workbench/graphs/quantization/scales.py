"""Scale and zero point of every tensor: real = scale · (quantized - zero point).

An activation's scale follows from its range and the clipping point; ``clipping_point`` chooses those of softmax and
GELU outputs on their own. A weight has one scale per output channel, from the channel's largest magnitude.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...dtypes import TYPES
from ...records import Recipe
from ..structure.values import numpy_type
from . import thresholds
from .histogram import magnitudes
from .ranges import Ranges, TensorRange

#: The first opset whose QuantizeLinear takes 16-bit floats.
HALF_SCALES_OPSET = 19


class ScaleZeroPoint(NamedTuple):
    """What QuantizeLinear takes beside the tensor: scalars, or one number per channel."""

    scale: np.ndarray
    zero_point: np.ndarray


class Layout(NamedTuple):
    """How one precision rounds in one layout of Q/DQ.

    Attributes:
        dtype: of quantized weights; of activations too unless they are ``unsigned``.
        largest: the largest magnitude of a quantized activation.
        largest_weight: the largest magnitude of a quantized weight.
        unsigned: whether activations are u8 with a zero point of their own.
        outputs: whether the outputs of attention's second products are quantized as well.
    """

    dtype: np.dtype
    largest: float
    largest_weight: float
    unsigned: bool = False
    outputs: bool = True

    @property
    def is_float(self) -> bool:
        """Whether the quantized numbers are floats, which keep their relative precision near zero."""
        return "float" in self.dtype.name

    @property
    def steps(self) -> float:
        """Into how many steps an activation's magnitudes are rounded when they are never negative."""
        return TYPES["uint8"].largest if self.unsigned else self.largest


#: How 8-bit weights are rounded that are expanded before they are multiplied: no sum of products can saturate.
WEIGHTS = Layout(numpy_type("int8"), TYPES["int8"].largest, TYPES["int8"].largest)


def layout_of(recipe: Recipe, largest_weight: float) -> Layout:
    """How a recipe rounds.

    Args:
        recipe: int8 or fp8.
        largest_weight: the largest magnitude of an int8 weight in the cpu layout, see ``saturation``.
    """
    kind = TYPES[recipe.precision]
    if recipe.resolved_layout == "cpu":
        return Layout(numpy_type(kind.name), kind.largest, largest_weight, unsigned=True, outputs=False)
    return Layout(numpy_type(kind.name), kind.largest, kind.largest)


# ---- activations -------------------------------------------------------------------------------------------------


def clipping_point(ranges: Ranges, tensor: str, method: str, layout: Layout) -> float:
    """The magnitude that the largest quantized number of an activation stands for.

    FP8 takes the largest magnitude seen: a float keeps its relative precision, so clipping would gain nothing.
    Probabilities and a GELU's output take whichever loses least on the calibration images: the method's threshold
    or the largest seen, and for probabilities 1. Most of their values crowd near zero, so that a method that clips
    takes the few large ones for outliers; but these are what attention, and the MLP, are about.
    """
    row = ranges.by_tensor[tensor]
    if layout.is_float:
        return row.minmax
    threshold = row.threshold(method)
    if not (row.probabilities or row.gelu):
        return threshold
    edges, counts = ranges.histogram(tensor)
    folded = magnitudes(counts, edges[-1], row.minmax)
    candidates = (threshold, row.minmax, *([1.0] if row.probabilities else []))
    return min(candidates, key=lambda candidate: thresholds.squared_error(*folded, candidate, layout.steps))


def activation_scale(row: TensorRange, clipped_at: float, layout: Layout, stored: np.dtype) -> ScaleZeroPoint:
    """Scale and zero point of one activation.

    Args:
        row: what calibration saw of it.
        clipped_at: the magnitude from ``clipping_point``.
        layout: see ``layout_of``.
        stored: the type in which the file stores the scale.
    """
    if layout.unsigned:
        return asymmetric(max(row.low, -clipped_at), min(row.high, clipped_at), stored)
    return symmetric(clipped_at, layout.largest, layout.dtype, stored)


def symmetric(amax, largest: float, dtype: np.dtype, stored: np.dtype) -> ScaleZeroPoint:
    """``scale = amax / largest`` (arXiv:2004.09602, equation 8), and zero point 0.

    Args:
        amax: the largest magnitude to represent; a scalar, or one per channel.
        largest: the largest magnitude of the quantized type: 127, 64 or 448.
        dtype: the quantized type.
        stored: the type in which the file stores the scale.
    """
    amax = np.asarray(amax, np.float64)
    scale = np.where(amax > 0, amax, 1.0) / largest
    return ScaleZeroPoint(_round_up(scale, stored), np.zeros(amax.shape, dtype))


def asymmetric(low: float, high: float, stored: np.dtype) -> ScaleZeroPoint:
    """Unsigned 8-bit numbers over ``low`` … ``high``, widened to represent 0 exactly.

    Source: the ONNX specification of DynamicQuantizeLinear.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = _round_up(np.asarray(((high - low) or 1.0) / 255), stored)
    return ScaleZeroPoint(scale, np.clip(np.rint(-low / float(scale)), 0, 255).astype(np.uint8))


def _round_up(scale: np.ndarray, stored: np.dtype) -> np.ndarray:
    """The scale in the type that the file stores, never smaller: numbers at the range's end must not be clipped."""
    rounded = np.asarray(scale).astype(stored)
    tiny = np.asarray(np.finfo(np.float32).tiny if stored == np.float32 else 0, stored)
    too_small = rounded.astype(np.float64) < scale
    return np.maximum(np.where(too_small, np.nextafter(rounded, np.asarray(np.inf, stored)), rounded), tiny)


# ---- weights -----------------------------------------------------------------------------------------------------


def channel_amax(weight: np.ndarray, axis: int) -> np.ndarray:
    """The largest magnitude in each slice along ``axis``."""
    return np.abs(weight).max(axis=tuple(i for i in range(weight.ndim) if i != axis % weight.ndim))


def quantize_weight(weight: np.ndarray, axis: int, scales: ScaleZeroPoint, largest: float) -> np.ndarray:
    """Weights divided by their channel's scale and rounded to the quantized type.

    Args:
        weight: float32.
        axis: the axis of the output channels.
        scales: one scale per output channel; its zero points have the quantized type.
        largest: what is larger is clipped to ±largest.
    """
    scaled = np.clip(weight / _along(axis, scales.scale, weight.ndim), -largest, largest)
    dtype = scales.zero_point.dtype
    return (np.rint(scaled) if "int" in dtype.name else scaled).astype(dtype)


def dequantize_weight(data: np.ndarray, axis: int, scales: ScaleZeroPoint) -> np.ndarray:
    """The float32 numbers that quantized weights stand for."""
    return data.astype(np.float32) * _along(axis, scales.scale, data.ndim)


def _along(axis: int, scale: np.ndarray, rank: int) -> np.ndarray:
    """Scales in a shape that broadcasts along ``axis``."""
    shape = [1] * rank
    shape[axis] = -1
    return scale.astype(np.float32).reshape(shape)
