"""NVFP4 and MXFP8 computed in float32 by operators that every runtime has, number for number.

A tensor core multiplies the low numbers exactly, applies the scales of the blocks and adds up in float32. So does
a float32 product of what the low numbers stand for. The quantizers of TensorRT's domain become plain operators
that round as ``block_scales`` does; weights become the float32 constants that ONNX's DequantizeLinear would give.
Where weights alone are in blocks, the product multiplies in a wider type, to which a cast rounds them first.

``round_significant`` rounds by an addition and a subtraction, which a CPU does eight at a time: a pair of casts to
FP8 and back, or a chain of comparisons, took several times as long.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from ..structure.builder import Builder, constant
from ..structure.operators import BLOCK_QUANTIZERS, DEQUANTIZERS
from ..structure.values import array, elements, input_of, known_lengths, lengths, onnx_type
from .block_scales import E8M0_BIAS, FP4, FP8, SMALLEST_POWER, dequantized

FLOAT, FLOAT8 = onnx_type("fp32"), onnx_type("fp8")


class Significant(NamedTuple):
    """How a small floating-point type rounds: significant bits, and the distance of its smallest numbers."""

    bits: int
    unit: float


#: E2M1 and E4M3, each with one bit of mantissa that is not stored.
E2M1, E4M3 = Significant(2, 0.5), Significant(4, 2.0**-9)


def expand_blocks(model: ir.Model) -> None:
    """Replace block-scaled weights and activations by float32 tensors of the same values, in place."""
    both_sides = any(each.op_type in BLOCK_QUANTIZERS for each in model.graph)
    for each in list(model.graph):
        if each.op_type in BLOCK_QUANTIZERS:
            _replace(_dequantizer_of(each.outputs[0]), _activation(model, each))
        elif each.op_type in DEQUANTIZERS and _is_block_weight(each):
            _replace(each, _weight(model, each), keep_cast=not both_sides)


def _dequantizer_of(low: ir.Value) -> ir.Node:
    """The node that reads the low numbers."""
    return next(use.node for use in low.uses())


def _replace(dequantizer: ir.Node, real: ir.Value, keep_cast: bool = False) -> None:
    """Let what reads the dequantized numbers read ``real``.

    A cast in between is passed over, because a tensor core that multiplies low numbers rounds nothing. It is kept
    where weights alone are low, because such a product multiplies them in the type of its activation.
    """
    written = dequantizer.outputs[0]
    for use in list(written.uses()):
        if use.node.op_type == "Cast" and not keep_cast:
            ir.convenience.replace_all_uses_with(use.node.outputs[0], real)
        else:
            use.node.replace_input_with(use.idx, real)


# ---- weights -----------------------------------------------------------------------------------------------------


def _is_block_weight(node: ir.Node) -> bool:
    return "block_size" in node.attributes and array(node.inputs[0]) is not None and _is_low_float(node)


def _is_low_float(node: ir.Node) -> bool:
    return input_of(node, 0).dtype in (onnx_type("fp4"), FLOAT8)  # INT4 runs as it is


def _weight(model: ir.Model, node: ir.Node) -> ir.Value:
    low, axis = elements(node.inputs[0]), node.attributes["axis"].as_int()
    if node.op_type == "DequantizeLinear":
        scaled = input_of(node, 1).producer()
        if scaled is None:
            raise ValueError(f"the scales of {node.name} are no product of two")
        steps = elements(scaled.inputs[0]).astype(np.float32) * elements(scaled.inputs[1])
    else:
        steps = np.exp2(elements(node.inputs[1]).astype(np.int32) - E8M0_BIAS, dtype=np.float32)
    return constant(model, f"{node.name}/real", dequantized(low, steps, axis))


# ---- activations -------------------------------------------------------------------------------------------------


def _activation(model: ir.Model, quantizer: ir.Node) -> ir.Value:
    """What the quantized activation stands for, computed in front of the quantizer."""
    value = input_of(quantizer, 0)
    build = Builder(model, quantizer, f"{quantizer.name}/emulated")
    build.dtype = np.dtype(np.float32)
    size, leading = quantizer.attributes["block_size"].as_int(), [0] * (len(lengths(value)) - 1)
    (length,) = known_lengths(value, -1) or (None,)
    if length is None:
        raise ValueError(f"the length of {value.name} is unknown")
    wide = value if value.dtype == FLOAT else _float(build, "wide", "Cast", value, to=FLOAT)
    blocks = _float(build, "blocks", "Reshape", wide, build.ints("blocks/shape", [*leading, length // size, size]))
    largest = _float(build, "amax", "ReduceMax", _float(build, "abs", "Abs", blocks), build.ints("amax/axes", [-1]))
    if quantizer.op_type == "TRT_FP4DynamicQuantize":
        real = _fp4(build, blocks, largest, input_of(quantizer, 1))
    else:
        real = _mxfp8(build, blocks, largest)
    return _float(build, "real", "Reshape", real, build.ints("real/shape", [*leading, length]))


def _float(build: Builder, role: str, kind: str, *inputs: ir.Value | float, **attributes) -> ir.Value:
    """A float32 node."""
    made = build.op(kind, role, *inputs, **attributes)
    made.dtype = FLOAT
    return made


def _fp4(build: Builder, blocks: ir.Value, largest: ir.Value, tensor_scale: ir.Value) -> ir.Value:
    """NVFP4: the block's scale rounded to FP8, then its numbers to FP4; a scale of zero makes a block of zeros."""
    ratio = _float(build, "ratio", "Div", _float(build, "sixth", "Div", largest, FP4), tensor_scale)
    steps = _float(build, "steps", "Mul", _to(build, "scale", ratio, E4M3, FP8), tensor_scale)
    divisor = _float(build, "divisor", "Max", steps, float(np.finfo(np.float32).tiny))
    low = _to(build, "low", _float(build, "divided", "Div", blocks, divisor), E2M1, FP4)
    return _float(build, "scaled", "Mul", low, steps)


def _to(build: Builder, role: str, value: ir.Value, kind: Significant, largest: float) -> ir.Value:
    """Round to a type, ties to even, beyond its largest number to that."""
    return round_significant(build, role, _float(build, f"{role}/clipped", "Clip", value, -largest, largest), kind)


def round_significant(build: Builder, role: str, value: ir.Value, kind: Significant) -> ir.Value:
    """Round float32 to a few significant bits, ties to even, by (x + c) - c with c some 2^(24 - bits) times |x|.

    Next to c float32 has no finer steps than the type has next to x. The factor is less by four, so that the sum
    stays below the power of two where its steps would double, and so that c is an even number of steps at a tie.
    """
    size = _float(build, f"{role}/abs", "Abs", value)
    scaled = _float(build, f"{role}/large", "Mul", size, 2.0 ** (24 - kind.bits) - 4)
    large = _float(build, f"{role}/larger", "Clip", scaled, 1.5 * 2.0**23 * kind.unit)
    return _float(build, f"{role}/rounded", "Sub", _float(build, f"{role}/sum", "Add", value, large), large)


def _mxfp8(build: Builder, blocks: ir.Value, largest: ir.Value) -> ir.Value:
    """MXFP8: the smallest power of two with which the largest number fits, then all numbers in FP8."""
    ratio = _float(build, "ratio", "Max", _float(build, "share", "Div", largest, FP8), SMALLEST_POWER)
    exponent = _float(build, "exponent", "Div", _float(build, "log", "Log", ratio), float(np.log(2)))
    guess = _float(build, "guess", "Pow", 2.0, _float(build, "whole", "Ceil", exponent))
    half = _float(build, "half", "Mul", guess, 0.5)  # the logarithm may be off by one where the ratio is a power
    lower = _float(build, "lower", "Where", build.op("GreaterOrEqual", "fits", half, ratio), half, guess)
    double = _float(build, "double", "Mul", lower, 2.0)
    steps = _float(build, "steps", "Where", build.op("Less", "short", lower, ratio), double, lower)
    low = round_significant(build, "low", _float(build, "divided", "Div", blocks, steps), E4M3)
    return _float(build, "scaled", "Mul", low, steps)
