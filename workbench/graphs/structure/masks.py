"""Masks that hide nothing: torch writes one around every attention that could have been masked."""

from __future__ import annotations

import onnx_ir as ir

from .operators import CARRIERS
from .values import array, input_of, producer_of


def adds_nothing(addition: ir.Node) -> bool:
    """Whether one operand of an addition is a mask that hides nothing."""
    return addition.op_type == "Add" and any(map(hides_nothing, addition.inputs))


def hides_nothing(mask: ir.Value | None) -> bool:
    """Whether a mask is the same for every image and is true, or adds zero, everywhere."""
    found, node = array(mask), producer_of(mask)
    if found is not None:
        return bool(found.all() if found.dtype == bool else not found.any())
    if node is None:
        return False
    if node.op_type == "Where":
        return hides_nothing(node.inputs[0]) and hides_nothing(node.inputs[1])
    return node.op_type in CARRIERS and hides_nothing(node.inputs[0])


def is_nan_guard(node: ir.Node) -> bool:
    """Whether a node is torch's guard against rows that a mask hides wholly: ``Where(IsNaN(p), 0, p)``.

    Without such a row no probability is NaN, and the guard changes nothing.
    """
    if node.op_type != "Where":
        return False
    condition, instead = producer_of(node.inputs[0]), array(node.inputs[1])
    asks = condition is not None and condition.op_type == "IsNaN" and condition.inputs[0] is input_of(node, 2)
    return asks and instead is not None and not instead.any()
