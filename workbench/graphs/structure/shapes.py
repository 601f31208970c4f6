"""Shapes that ONNX cannot infer, because the file computes them from the batch."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript import optimizer

from .. import model_file
from .values import array, known_lengths, tensor_name

#: Two batches that no other length of a ViT is likely to be a sum or product of.
_TRIALS = (7, 11)
#: A tensor of more numbers is no shape.
LONGEST_SHAPE = 64


def complete_shapes(model: ir.Model, path: Path) -> None:
    """Fill in the lengths that ONNX could not infer, in place.

    With a batch of 7 and with one of 11, all shapes can be computed; a length that is the same in both is the
    tensor's, one that differs depends on the batch and stays open. Where it is a multiple of the batch, its name
    says so, for ``per_image``.
    """
    batch = {str(n) for value in model.graph.inputs for n in value.shape or () if not isinstance(n, int)}
    values = [value for node in model.graph for value in node.outputs if _is_open(value)]
    if all(value.shape is not None and batch.issuperset(_open_lengths(value)) for value in values):
        return
    one, other = (_shapes_at(path, batch) for batch in _TRIALS)
    for value in values:
        if value.name in one and value.name in other and len(one[value.name]) == len(other[value.name]):
            pairs = zip(one[value.name], other[value.name])
            value.shape = ir.Shape([a if a == b else _multiple(a, b) for a, b in pairs])


def _open_lengths(value: ir.Value) -> list[str]:
    return [str(n) for n in value.shape or () if not isinstance(n, int)]


def _multiple(one: int, other: int) -> str | None:
    """``17*batch`` for a length that holds 17 rows of each image."""
    times, rest = divmod(one, _TRIALS[0])
    return f"{times}*batch" if not rest and other == times * _TRIALS[1] else None


def _is_open(value: ir.Value) -> bool:
    return value.shape is None or not all(isinstance(n, int) for n in value.shape)


def _shapes_at(path: Path, batch: int) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a file at one batch, by name, where it can be computed."""
    model = model_file.load(path)
    for value in model.graph.inputs:
        first, *others = value.shape or (None,)
        value.shape = ir.Shape([first if isinstance(first, int) else batch, *others])
    for value in (*(v for node in model.graph for v in node.outputs), *model.graph.outputs):
        value.shape = None  # what was inferred for an open batch would be believed
    still_open = len(model.graph) + 1
    while still_open > (still_open := sum(_is_open(node.outputs[0]) for node in model.graph)):
        passes.ShapeInferencePass()(model)  # a Shape whose input is known ...
        optimizer.fold_constants(model, should_fold=_is_a_shape)  # ... becomes a constant, and more shapes follow
        _believe_constants(model)
    made = (value for node in model.graph for value in node.outputs)
    known = {tensor_name(value): known_lengths(value) for value in made}
    return {name: tuple(shape) for name, shape in known.items() if shape is not None}


def _is_a_shape(node: ir.Node) -> bool | None:
    """Fold a ConstantOfShape that makes a shape too, which onnxscript leaves alone and torch feeds to Expand."""
    made = array(node.inputs[0]) if node.op_type == "ConstantOfShape" else None
    return True if made is not None and made.prod() <= LONGEST_SHAPE else None


def _believe_constants(model: ir.Model) -> None:
    """Give folded tensors the shape of their value, and forget lengths that were only named."""
    initializers = model.graph.initializers.values()
    for value in (*(v for node in model.graph for v in node.outputs), *initializers):
        if value.const_value is not None:
            value.shape = ir.Shape(value.const_value.shape.numpy())
        elif _is_open(value):
            value.shape = None
