"""NVFP4 and MXFP8 computed in float32 by operators that every runtime has, number for number.

A tensor core multiplies the low numbers exactly, applies the scales of the blocks and adds up in float32. So does a
float32 product of what the low numbers stand for. The quantizers of TensorRT's domain become plain operators that
round as ``block_scales`` does; weights become the float32 constants that ONNX's DequantizeLinear would give.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..structure.builder import Builder, constant
from ..structure.operators import BLOCK_QUANTIZERS, DEQUANTIZERS
from ..structure.values import array, elements, input_of, known_lengths, lengths, onnx_type
from .block_scales import E8M0_BIAS, FP4, FP8, SMALLEST_POWER, dequantized

FLOAT, FLOAT8 = onnx_type("fp32"), onnx_type("fp8")


def expand_blocks(model: ir.Model) -> None:
    """Replace block-scaled weights and activations by float32 tensors of the same values, in place."""
    for each in list(model.graph):
        if each.op_type in BLOCK_QUANTIZERS:
            _replace(_dequantizer_of(each.outputs[0]), _activation(model, each))
        elif each.op_type in DEQUANTIZERS and _is_block_weight(each):
            _replace(each, _weight(model, each))


def _dequantizer_of(low: ir.Value) -> ir.Node:
    """The node that reads the low numbers."""
    return next(use.node for use in low.uses())


def _replace(dequantizer: ir.Node, real: ir.Value) -> None:
    """Let what reads the dequantized numbers, behind a cast or not, read ``real``: a tensor core rounds nothing."""
    written = dequantizer.outputs[0]
    for use in list(written.uses()):
        if use.node.op_type == "Cast":
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


def _to_fp8(build: Builder, role: str, value: ir.Value) -> ir.Value:
    """Round to FP8, beyond ±448 to ±448."""
    low = build.op("Cast", f"{role}/fp8", value, to=FLOAT8)
    low.dtype = FLOAT8
    return _float(build, f"{role}/float", "Cast", low, to=FLOAT)


def _fp4(build: Builder, blocks: ir.Value, largest: ir.Value, tensor_scale: ir.Value) -> ir.Value:
    """NVFP4: the block's scale rounded to FP8, then its numbers to FP4; a scale of zero makes a block of zeros."""
    ratio = _float(build, "ratio", "Div", _float(build, "sixth", "Div", largest, FP4), tensor_scale)
    steps = _float(build, "steps", "Mul", _to_fp8(build, "scale", ratio), tensor_scale)
    divisor = _float(build, "divisor", "Max", steps, float(np.finfo(np.float32).tiny))
    low = _to_fp4(build, _float(build, "divided", "Div", blocks, divisor))
    return _float(build, "scaled", "Mul", low, steps)


def _to_fp4(build: Builder, value: ir.Value) -> ir.Value:
    """Round to FP4, ties to even: below 2 to halves, below 4 to ones, else to twos up to 6."""
    size = _float(build, "fp4/size", "Min", _float(build, "fp4/abs", "Abs", value), FP4)

    def below(role: str, limit: float) -> ir.Value:
        return build.op("Less", f"fp4/{role}", size, limit)

    one_or_two = build.op("Where", "fp4/coarse", below("four", 4.0), 1.0, 2.0)
    unit = _float(build, "fp4/unit", "Where", below("two", 2.0), 0.5, one_or_two)
    counted = _float(build, "fp4/count", "Round", _float(build, "fp4/units", "Div", size, unit))
    rounded = _float(build, "fp4/rounded", "Mul", counted, unit)
    return _float(build, "fp4/signed", "Mul", rounded, _float(build, "fp4/sign", "Sign", value))


def _mxfp8(build: Builder, blocks: ir.Value, largest: ir.Value) -> ir.Value:
    """MXFP8: the smallest power of two with which the largest number fits, then all numbers in FP8."""
    ratio = _float(build, "ratio", "Max", _float(build, "share", "Div", largest, FP8), SMALLEST_POWER)
    exponent = _float(build, "exponent", "Div", _float(build, "log", "Log", ratio), float(np.log(2)))
    guess = _float(build, "guess", "Pow", 2.0, _float(build, "whole", "Ceil", exponent))
    half = _float(build, "half", "Mul", guess, 0.5)  # the logarithm may be off by one where the ratio is a power
    lower = _float(build, "lower", "Where", build.op("GreaterOrEqual", "fits", half, ratio), half, guess)
    double = _float(build, "double", "Mul", lower, 2.0)
    steps = _float(build, "steps", "Where", build.op("Less", "short", lower, ratio), double, lower)
    low = _to_fp8(build, "low", _float(build, "divided", "Div", blocks, steps))
    return _float(build, "scaled", "Mul", low, steps)
