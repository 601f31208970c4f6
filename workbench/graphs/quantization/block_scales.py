"""Weights in blocks along the summed axis, each with a scale of its own: NVFP4, MXFP8 and INT4.

A scale for a whole channel leaves a 4-bit type too few steps: one large weight makes all others of the channel
round to zero. A scale for 16 or 32 weights confines that to a block. Sources of the roundings:

* NVFP4: FP4 (E2M1) numbers, an FP8 (E4M3) scale for each 16 of them, and one float32 scale for the whole tensor,
  which puts the largest block's scale at FP8's largest number (NVIDIA, "Introducing NVFP4", 2025).
* MXFP8: FP8 (E4M3) numbers and a power of two (E8M0) for each 32 of them, rounded up, so that the largest number
  never saturates (cuDNN, "Block Scaling": ``quantize_round_up(amax / vmax)``). OCP's own algorithm rounds down.
* INT4: whole numbers of ±7 and a scale in the model's own type for each 32 of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...dtypes import TYPES
from ...records import PRECISIONS
from ..structure.values import numpy_type
from .scales import symmetric

FP4, FP8 = TYPES["fp4"].largest, TYPES["fp8"].largest
#: The smallest positive FP8 number, for blocks whose scale would round to zero: runtimes want scales above zero.
SMALLEST_FP8 = 2.0**-9
#: E8M0 stores an exponent plus this.
E8M0_BIAS = 127
#: Scales of MXFP8 stay normal float32 numbers, which no runtime flushes to zero.
SMALLEST_POWER = 2.0**-126


class Blocks(NamedTuple):
    """A quantized weight: real = elements · scales.

    Attributes:
        elements: in the low type, of the weight's shape.
        scales: of that shape, but with one number per block along the summed axis; of E8M0 its bytes.
    """

    elements: np.ndarray
    scales: np.ndarray


class ScaledBlocks(NamedTuple):
    """As ``Blocks``, with a float32 scale of the scales: real = elements · scales · tensor_scale."""

    elements: np.ndarray
    scales: np.ndarray
    tensor_scale: np.float32


def nvfp4(weight: np.ndarray, axis: int) -> ScaledBlocks:
    """Round float32 weights, (K, N) or (N, K), to NVFP4 along ``axis``, whose length 16 divides."""
    size = PRECISIONS["nvfp4"].block
    amax = block_amax(weight, axis, size)
    tensor_scale = tensor_scale_of(float(amax.max()))
    scales = np.maximum(amax / np.float32(FP4) / tensor_scale, SMALLEST_FP8).astype(numpy_type("fp8"))
    steps = np.repeat(scales.astype(np.float32) * tensor_scale, size, axis)
    return ScaledBlocks(np.clip(weight / steps, -FP4, FP4).astype(numpy_type("fp4")), scales, tensor_scale)


def tensor_scale_of(amax: float) -> np.float32:
    """The scale of NVFP4's scales for a tensor whose largest magnitude is ``amax``; 1 for a tensor of zeros."""
    return np.float32(amax / (FP4 * FP8)) if amax > 0 else np.float32(1)


def mxfp8(weight: np.ndarray, axis: int) -> Blocks:
    """Round float32 weights, (K, N) or (N, K), to MXFP8 along ``axis``, whose length 32 divides."""
    size = PRECISIONS["mxfp8"].block
    exponents = _exponent_above(block_amax(weight, axis, size) / np.float32(FP8))
    steps = np.repeat(np.exp2(exponents, dtype=np.float32), size, axis)
    return Blocks((weight / steps).astype(numpy_type("fp8")), (exponents + E8M0_BIAS).astype(np.uint8))


def int4(weight: np.ndarray, axis: int, stored: np.dtype) -> Blocks:
    """Round float32 weights, (K, N) or (N, K), to INT4 along ``axis``, whose length 32 divides.

    Args:
        weight: see above.
        axis: see above.
        stored: the type in which the file stores the scales.
    """
    size, kind = PRECISIONS["w4"].block, TYPES["int4"]
    scales = symmetric(block_amax(weight, axis, size), kind.largest, numpy_type("int4"), stored).scale
    rounded = np.rint(weight / np.repeat(scales.astype(np.float32), size, axis))
    return Blocks(np.clip(rounded, -kind.largest, kind.largest).astype(numpy_type("int4")), scales)


def block_amax(weight: np.ndarray, axis: int, size: int) -> np.ndarray:
    """The largest magnitude of each block along ``axis``."""
    shape = (*weight.shape[:axis], weight.shape[axis] // size, size, *weight.shape[axis + 1 :])
    return np.abs(weight.reshape(shape)).max(axis=axis + 1)


def dequantized(elements: np.ndarray, steps: np.ndarray, axis: int) -> np.ndarray:
    """The float32 numbers that elements stand for; ``steps`` has one float32 number per block along ``axis``."""
    return elements.astype(np.float32) * np.repeat(steps, elements.shape[axis] // steps.shape[axis], axis)


def _exponent_above(ratio: np.ndarray) -> np.ndarray:
    """The smallest whole e with 2ᵉ of at least the ratio, computed without a rounded logarithm."""
    mantissa, exponent = np.frexp(np.maximum(ratio, np.float32(SMALLEST_POWER)))  # ratio = mantissa · 2^exponent
    return np.where(mantissa == 0.5, exponent - 1, exponent).astype(np.int32)
