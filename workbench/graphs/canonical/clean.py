"""From the graph an exporter writes to the one an expert would draw.

onnxslim folds the shape arithmetic, onnxscript's rewriter turns what is left into the operators that were meant
(``rules``), GELU and attention are recognised by what they compute and drawn anew (``activations``,
``attention``), and every node, tensor and weight is named by its place (``roles``, ``names``).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
import onnxslim
from onnxscript import optimizer

from ..structure import naming
from ..structure.builder import constant
from ..structure.values import array
from . import attention, class_token, gelu, rules

#: Longer lists of whole numbers than any shape are weights too.
LONGEST_SHAPE = 64
#: The key under which a node carries the line of code that it comes from.
SOURCE = "workbench.source"
#: Graphs use no newer file format than onnxruntime 1.23 and TensorRT 10 read.
LATEST_IR = 10
#: Modules whose source shapes a cleaned graph, for its digest.
TOOLS = ("onnx", "onnx-ir", "onnxscript", "onnxslim")


def clean(model: ir.Model) -> tuple[ir.Model, dict[ir.Node, str]]:
    """Clean a model up, keeping what it computes.

    Args:
        model: any ViT's graph; nodes that belong to no ViT block are left as they are. It may be changed in place.

    Returns:
        The clean model, and the place of each node that has one.
    """
    stamps = {value.name: node.metadata_props.get(SOURCE) for node in model.graph for value in node.outputs}
    model = slim(model)
    optimizer.fold_constants(model, input_size_limit=1 << 40, output_size_limit=1 << 40)
    _initializers_only(model)
    passes.ShapeInferencePass()(model)
    while rules.RULES.apply_to_model(model):
        _initializers_only(model)
        passes.ShapeInferencePass()(model)
    _stamp(model, stamps)
    gelu.redraw(model)
    attention.redraw(model)
    class_token.redraw(model)
    _keep_batch(model)
    _tidy_biases(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.TopologicalSortPass()(model)
    _infer_anew(model)
    model.ir_version = min(model.ir_version, LATEST_IR)
    model.graph.name = "vit" if (places := naming.name(model)) else model.graph.name
    return model, places


def slim(model: ir.Model) -> ir.Model:
    """onnxslim over the graph without its weights, which become inputs for the time being.

    Only shapes and single numbers matter to it; with the weights it would put products and additions together as
    Gemm, leave out biases that happen to be zero, and end at protobuf's 2 GiB.
    """
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    values = {name: v for name, v in model.graph.initializers.items() if _is_weight(v.const_value)}
    weights = {name: value.const_value for name, value in values.items()}
    for name, value in values.items():
        value.shape, value.dtype, value.const_value = weights[name].shape, weights[name].dtype, None
        del model.graph.initializers[name]
        model.graph.inputs.append(value)
    for node in model.graph:  # a shape of no type cannot be written
        for value in node.outputs:
            value.shape = value.shape if value.dtype is not None else None
    slimmed = ir.from_proto(onnxslim.slim(ir.to_proto(model)))
    for value in list(slimmed.graph.inputs):
        if value.name in weights:
            slimmed.graph.inputs.remove(value)
            value.const_value = weights[value.name]
            slimmed.graph.register_initializer(value)
    return slimmed


def _stamp(model: ir.Model, stamps: dict[str, str | None]) -> None:
    """Tensors kept their names on the way; a node's line of code is found by its output's."""
    for node in model.graph:
        node.metadata_props.clear()
        line = next((stamps[v.name] for v in node.outputs if stamps.get(v.name)), None)
        if line is not None:
            node.metadata_props[SOURCE] = line


def _is_weight(tensor: ir.TensorProtocol) -> bool:
    return tensor.size > (1 if tensor.dtype.is_floating_point() else LONGEST_SHAPE)


def _initializers_only(model: ir.Model) -> None:
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.RemoveUnusedNodesPass()(model)


def _keep_batch(model: ir.Model) -> None:
    """A Reshape that leaves the batch alone says so with a 0, and shape inference knows the batch behind it."""
    for node in model.graph:
        shape = array(node.inputs[1]) if node.op_type == "Reshape" else None
        before = node.inputs[0].shape if shape is not None else None
        if before is None or any(not isinstance(d, int) for d in before[1:]) or (shape[1:] < 1).any():
            continue
        if shape[0] in (-1, before[0]) and np.prod(shape[1:]) == np.prod(before[1:], dtype=np.int64):
            kept = constant(model, f"{node.outputs[0].name}/shape", np.array([0, *shape[1:]], np.int64))
            node.replace_input_with(1, kept)
            node.attributes.pop("allowzero", None)


def _infer_anew(model: ir.Model) -> None:
    """Infer all shapes, forgetting what was known by names that no longer stand for the batch."""
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    passes.ShapeInferencePass()(model)


def _tidy_biases(model: ir.Model) -> None:
    """A bias is the second operand of its addition, and a vector."""
    for node in model.graph:
        if node.op_type != "Add":
            continue
        left, right = node.inputs
        if array(left) is not None and array(right) is None:
            node.replace_input_with(0, right)
            node.replace_input_with(1, left)
            left, right = right, left
        bias, product = array(right), left.producer()
        if (
            bias is None
            or product is None
            or product.op_type != "MatMul"
            or bias.ndim == 1
            or bias.size != bias.shape[-1]
        ):
            continue
        node.replace_input_with(1, constant(model, f"{right.name}/flat/{node.name}", bias.ravel()))
