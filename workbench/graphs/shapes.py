"""Shapes that ONNX cannot infer, because the file computes them from the batch."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript import optimizer

from . import edit
from .edit import array

#: Two batches that no other length of a ViT is likely to be a sum or product of.
_TRIALS = (7, 11)


def complete_shapes(model: ir.Model, path: Path) -> None:
    """Fill in the lengths that ONNX could not infer, in place.

    With a batch of 7 and with one of 11, all shapes can be computed; a length that is the same in both is the
    tensor's, one that differs depends on the batch and stays open.
    """
    values = [value for node in model.graph for value in node.outputs if _is_open(value)]
    if not any(
        array(value) is None for node in model.graph if node.op_type == "Reshape" for value in node.inputs[1:]
    ):
        return
    one, other = (_shapes_at(path, batch) for batch in _TRIALS)
    for value in values:
        if value.name in one and value.name in other and len(one[value.name]) == len(other[value.name]):
            pairs = zip(one[value.name], other[value.name])
            value.shape = ir.Shape([a if a == b else None for a, b in pairs])


def _is_open(value: ir.Value) -> bool:
    return value.shape is None or not all(isinstance(n, int) for n in value.shape)


def _shapes_at(path: Path, batch: int) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a file at one batch, by name, where it can be computed."""
    model = edit.load(path)
    for value in model.graph.inputs:
        first, *others = value.shape or (None,)
        value.shape = ir.Shape([first if isinstance(first, int) else batch, *others])
    for node in model.graph:
        for value in node.outputs:  # what was inferred for an open batch would be believed
            value.shape = None
    for value in model.graph.outputs:
        value.shape = None
    still_open = len(model.graph) + 1
    while still_open > (still_open := sum(_is_open(node.outputs[0]) for node in model.graph)):
        passes.ShapeInferencePass()(model)  # a Shape whose input is known ...
        optimizer.fold_constants(model)  # ... becomes a constant, from which more shapes follow
    made = (value for node in model.graph for value in node.outputs)
    return {value.name: tuple(value.shape) for value in made if not _is_open(value)}


def lengths(value: ir.Value | None) -> tuple[int | None, ...]:
    """A tensor's shape, None for a symbolic length; empty where the shape is unknown."""
    if value is None or value.shape is None:
        return ()
    return tuple(n if isinstance(n, int) else None for n in value.shape)
