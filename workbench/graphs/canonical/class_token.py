"""The class token without shape arithmetic: a padded row that the position embedding fills."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..structure.builder import Builder, take_place
from ..structure.values import array


def redraw(model: ir.Model) -> None:
    """Concat(Expand(tokens), patches) + position is Pad(patches) + (position with the tokens added to it).

    Expand needs the batch at run time, which costs three nodes of shape arithmetic; Pad does not. Where the
    position was added to the patches alone, the tokens are added to the padded rows by themselves.
    """
    for node in list(model.graph):
        if node.op_type != "Concat" or node.attributes.get_int("axis", 0) != 1 or len(node.inputs) < 2:
            continue
        learnt, uses = [_learnt(value) for value in node.inputs[:-1]], node.outputs[0].uses()
        if any(rows is None for rows in learnt):
            continue
        tokens = np.concatenate(learnt, axis=1)
        if len(uses) == 1 and (position := _position(uses[0].node, tokens)) is not None:
            _pad(model, node, tokens, position, uses[0].node)
        elif any(v.producer() for v in node.inputs[:-1]) and (rows := _rows(node.inputs[-1])) is not None:
            nothing = np.zeros((1, tokens.shape[1] + rows, tokens.shape[2]), tokens.dtype)
            _pad(model, node, tokens, nothing, node)


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


def _position(addition: ir.Node, tokens: np.ndarray) -> np.ndarray | None:
    """(1, S, D): the constant that a node adds to all tokens, or None where it does something else."""
    position = next((array(v) for v in addition.inputs if v is not None and array(v) is not None), None)
    if addition.op_type != "Add" or position is None or position.ndim != 3 or position.shape[0] != 1:
        return None
    return position if position.shape[1] > tokens.shape[1] and position.shape[2] == tokens.shape[2] else None


def _rows(patches: ir.Value) -> int | None:
    known = patches.shape is not None and len(patches.shape) == 3 and isinstance(patches.shape[1], int)
    return patches.shape[1] if known else None


def _pad(model: ir.Model, concat: ir.Node, tokens: np.ndarray, position: np.ndarray, last: ir.Node) -> None:
    """Draw the padding and the addition in the place of ``last``: the concatenation, or the addition behind it."""
    count, filled = tokens.shape[1], position.copy()
    filled[:, :count] += tokens
    pen = Builder(model, last, f"{last.name or 'embedding'}/tokens")
    pen.origin = concat
    padded = pen.op("Pad", "pad", concat.inputs[-1], pen.ints("pads", [0, count, 0, 0, 0, 0]))
    pen.origin = last
    take_place(pen.op("Add", "position", padded, pen.constant("position", filled)), last.outputs[0])
