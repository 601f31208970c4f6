"""The canonical form of the class token: a padded row that the position embedding fills."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..structure.builder import Builder, take_place
from ..structure.values import array, input_of, known_lengths, only_reader, producer_of


def canonicalize(model: ir.Model) -> None:
    """Concat(Expand(tokens), patches) + position is Pad(patches) + (position with the tokens added to it).

    Expand needs the batch at run time, which costs three nodes of shape arithmetic; Pad does not. Where the
    position was added to the patches alone, the tokens are added to the padded rows by themselves.
    """
    for node in list(model.graph):
        if node.op_type != "Concat" or node.attributes.get_int("axis", 0) != 1 or len(node.inputs) < 2:
            continue
        learnt = [rows for value in node.inputs[:-1] if (rows := _learnt(value)) is not None]
        if len(learnt) < len(node.inputs) - 1:
            continue
        tokens, addition = np.concatenate(learnt, axis=1), only_reader(node.outputs[0])
        position = _position(addition, tokens) if addition is not None else None
        patches = known_lengths(node.inputs[-1], 1)
        if addition is not None and position is not None:
            _pad(model, node, tokens, position, addition)
        elif any(map(producer_of, node.inputs[:-1])) and patches is not None and len(patches) == 2:
            nothing = np.zeros((1, tokens.shape[1] + patches[0], tokens.shape[2]), tokens.dtype)
            _pad(model, node, tokens, nothing, node)


def _learnt(value: ir.Value | None) -> np.ndarray | None:
    """(1, n, D): the constant rows that every image gets, or None where the rows are computed."""
    node = producer_of(value)
    expanded = node is not None and node.op_type == "Expand"
    rows = array(node.inputs[0] if node is not None and expanded else value)
    if rows is None or rows.ndim != 3:
        return None
    if expanded:
        return rows if rows.shape[0] == 1 and known_lengths(value, 1) == list(rows.shape[1:]) else None
    return rows[:1] if (rows == rows[:1]).all() else None


def _position(addition: ir.Node, tokens: np.ndarray) -> np.ndarray | None:
    """(1, S, D): the constant that a node adds to all tokens, or None where it does something else."""
    position = next((array(v) for v in addition.inputs if v is not None and array(v) is not None), None)
    if addition.op_type != "Add" or position is None or position.ndim != 3 or position.shape[0] != 1:
        return None
    return position if position.shape[1] > tokens.shape[1] and position.shape[2] == tokens.shape[2] else None


def _pad(model: ir.Model, concat: ir.Node, tokens: np.ndarray, position: np.ndarray, last: ir.Node) -> None:
    """Put the padding and the addition in the place of ``last``: the concatenation, or the addition behind it."""
    count, filled = tokens.shape[1], position.copy()
    filled[:, :count] += tokens
    build = Builder(model, last, f"{last.name or 'embedding'}/tokens")
    build.origin = concat
    padded = build.op("Pad", "pad", input_of(concat, -1), build.ints("pads", [0, count, 0, 0, 0, 0]))
    build.origin = last
    take_place(build.op("Add", "position", padded, build.constant("position", filled)), last.outputs[0])
