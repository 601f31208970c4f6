"""A softmax that is spelled out becomes the one operator: e^(x - max) / Σ e^(x - max), or without the maximum.

Taking the maximum off changes nothing but the range of the exponential, so that a spelling without it is the same
function, and loses its overflow.
"""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as passes

from ..structure.builder import Builder, take_place
from ..structure.values import array, input_of, optional_input, producer_of, rank


def canonicalize(model: ir.Model) -> int:
    """Replace every softmax over one axis that is written in Exp, ReduceSum and a division.

    Returns:
        How many were replaced.
    """
    written = 0
    for node in list(model.graph):
        exponential, total = _quotient(node)
        if exponential is None or exponential.op_type != "Exp":
            continue
        axis = _summed_axis(total, exponential.outputs[0], "ReduceSum")
        if axis is None:
            continue
        build = Builder(model, node, node.name or f"softmax.{written}")
        source = _without_maximum(input_of(exponential, 0), axis)
        take_place(build.op("Softmax", "softmax", source, axis=axis), node.outputs[0])
        written += 1
    passes.RemoveUnusedNodesPass()(model)
    return written


def _quotient(node: ir.Node) -> tuple[ir.Node | None, ir.Node | None]:
    """What computes numerator and denominator, where a node divides, or multiplies by a reciprocal."""
    if node.op_type not in ("Div", "Mul"):
        return None, None
    above = [producer_of(value) for value in node.inputs]
    if node.op_type == "Div":
        return above[0], above[1]
    for numerator, other in (above, above[::-1]):
        if other is not None and other.op_type == "Reciprocal":
            return numerator, producer_of(other.inputs[0])
    return None, None


def _summed_axis(node: ir.Node | None, of: ir.Value, kind: str) -> int | None:
    """The one axis, counted from the end, over which a node reduces a tensor and keeps it with length 1."""
    if (
        node is None
        or node.op_type != kind
        or node.inputs[0] is not of
        or not node.attributes.get_int("keepdims", 1)
    ):
        return None
    given = array(optional_input(node, 1))
    axes = (
        [int(axis) for axis in given.ravel()] if given is not None else list(node.attributes.get_ints("axes", ()))
    )
    if len(axes) != 1:
        return None
    (axis,), dimensions = axes, rank(of)
    if axis < 0:
        return axis
    return None if dimensions is None else axis - dimensions


def _without_maximum(value: ir.Value, axis: int) -> ir.Value:
    """The tensor whose maximum along the axis was taken off, or the tensor itself."""
    node = producer_of(value)
    if node is None or node.op_type != "Sub":
        return value
    source = input_of(node, 0)
    return source if _summed_axis(producer_of(node.inputs[1]), source, "ReduceMax") == axis else value
