"""Small forms of a clean graph: constants as initializers, the batch in reshapes, biases as vectors, shapes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from ..structure.builder import constant
from ..structure.values import array, elements, input_of, known_lengths, producer_of


def lift_constants(model: ir.Model) -> None:
    """Constant nodes become initializers, and what nobody reads goes."""
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.RemoveUnusedNodesPass()(model)


def keep_batch(model: ir.Model) -> None:
    """A Reshape that leaves the batch alone says so with a 0, and shape inference knows the batch behind it."""
    for node in model.graph:
        if node.op_type != "Reshape" or (shape := array(node.inputs[1])) is None:
            continue
        before, inner = input_of(node, 0).shape, known_lengths(node.inputs[0], 1)
        if before is None or inner is None or (shape[1:] < 1).any():
            continue
        if shape[0] in (-1, before[0]) and np.prod(shape[1:]) == np.prod(inner, dtype=np.int64):
            kept = constant(model, f"{node.outputs[0].name}/shape", np.array([0, *shape[1:]], np.int64))
            node.replace_input_with(1, kept)
            node.attributes.pop("allowzero", None)


def tidy_biases(model: ir.Model) -> None:
    """A bias is the second operand of its addition, and a vector."""
    for node in model.graph:
        if node.op_type != "Add":
            continue
        left, right = input_of(node, 0), input_of(node, 1)
        if array(left) is not None and array(right) is None:
            node.replace_input_with(0, right)
            node.replace_input_with(1, left)
            left, right = right, left
        product = producer_of(left)
        if product is not None and product.op_type == "MatMul" and _is_flat_but_no_vector(right):
            flat = constant(model, f"{right.name}/flat/{node.name}", elements(right).ravel())
            node.replace_input_with(1, flat)


def _is_flat_but_no_vector(value: ir.Value) -> bool:
    """Whether a constant has all its elements along the last of several axes."""
    bias = array(value)
    return bias is not None and bias.ndim != 1 and bias.ndim > 0 and bias.size == bias.shape[-1]


def infer_anew(model: ir.Model) -> None:
    """Infer all shapes, forgetting what was known by names that no longer stand for the batch."""
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    passes.ShapeInferencePass()(model)
