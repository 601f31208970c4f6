"""The class token without shape arithmetic: a padded row that the position embedding fills."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from . import edit
from .edit import array
from .pen import Pen


def redraw(model: ir.Model) -> None:
    """Concat(Expand(tokens), patches) + position is Pad(patches) + (position with the tokens added to it).

    Expand needs the batch at run time, which costs three nodes of shape arithmetic; Pad does not.
    """
    for node in list(model.graph):
        if node.op_type == "Concat" and node.attributes.get_int("axis", 0) == 1 and len(node.inputs) == 2:
            tokens, uses = _learnt(node.inputs[0]), node.outputs[0].uses()
            if tokens is not None and len(uses) == 1:
                _pad(model, node, tokens, uses[0].node)


def _learnt(value: ir.Value) -> np.ndarray | None:
    """(1, n, D): the constant rows that every image gets, or None where the rows are computed."""
    node = value.producer()
    if node is not None and node.op_type == "Expand":
        rows = array(node.inputs[0])
        whole = rows is not None and value.shape is not None and list(value.shape[1:]) == list(rows.shape[1:])
        return rows if whole and rows.ndim == 3 and rows.shape[0] == 1 else None
    rows = array(value)
    same = rows is not None and rows.ndim == 3 and (rows == rows[:1]).all()
    return rows[:1] if same else None


def _pad(model: ir.Model, concat: ir.Node, tokens: np.ndarray, addition: ir.Node) -> None:
    patches, count = concat.inputs[1], tokens.shape[1]
    position = next((array(v) for v in addition.inputs if array(v) is not None), None)
    if addition.op_type != "Add" or position is None or position.ndim != 3 or position.shape[0] != 1:
        return
    if position.shape[1] <= count or position.shape[2] != tokens.shape[2]:
        return
    filled = position.copy()
    filled[:, :count] += tokens
    pen = Pen(model, addition, f"{addition.name or 'embedding'}/tokens")
    pen.origin = concat
    padded = pen.op("Pad", "pad", patches, pen.ints("pads", [0, count, 0, 0, 0, 0]))
    pen.origin = addition
    edit.take_place(pen.op("Add", "position", padded, pen.constant("position", filled)), addition.outputs[0])
