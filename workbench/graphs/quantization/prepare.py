"""The form of a float32 graph in which ranges are calibrated and recipes are applied."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as passes

from ...errors import refuse_unless
from ...records import Graph
from ..model_file import load
from ..structure.attention import Attention, find_attentions
from ..structure.builder import node, take_place
from ..structure.operators import QUANTIZED, name_of
from ..structure.values import HALVES, input_of, only_reader, scaling


def check_graph(graph) -> None:
    """Refuse anything but a ``Graph``."""
    refuse_unless(
        isinstance(graph, Graph),
        "A recipe is applied to a Graph",
        why=f"given was {type(graph).__name__}",
        remedy="give what export_onnx or import_onnx returned; of a variant its .graph",
    )


def prepare(graph: Graph, least_opset: int = 0) -> ir.Model:
    """Read a float32 graph and move the scale of its attention in front of the first product.

    Raises:
        WorkbenchError: the file is no ONNX model, is quantized already or computes in 16 bits already.
    """
    model = load(graph.path, least_opset)
    passes.NameFixPass()(model)  # files from elsewhere may have nodes without names, or with the same
    check_float32(model)
    scale_queries(model)
    return model


def check_float32(model: ir.Model) -> None:
    """Raise a ``WorkbenchError`` for a graph that holds quantized or 16-bit parts already."""
    for each in model.graph:
        refuse_unless(
            each.op_type not in QUANTIZED,
            "The graph is quantized already",
            why=f"{name_of(each)} is a {each.op_type}",
            remedy="start from the float32 graph; a recipe is applied once, to what export_onnx made",
        )
        refuse_unless(
            all(value.dtype not in HALVES for value in each.outputs),
            "The graph computes in 16 bits already",
            why=f"{name_of(each)} writes {each.outputs[0].dtype}",
            remedy="start from the float32 graph",
        )


def scale_queries(model: ir.Model) -> None:
    """Turn softmax(s · q kᵀ) into softmax((s · q) kᵀ), in place, so that the scores stay √d times smaller.

    For heads of 16, 64 or 256 channels s is a power of two and nothing changes but the range; q is also the smaller
    tensor to multiply.
    """
    for attention in find_attentions(model):
        if attention.scores.op_type == "MatMul" and _is_only_scaled(attention):
            _move_before(model, attention.before[0], attention.scores)


def _is_only_scaled(attention: Attention) -> bool:
    """Whether one factor stands between the scores and the softmax, and nothing else reads either of them."""
    between = [attention.scores, *attention.before]
    return (
        len(between) == 2
        and scaling(between[1]) is not None
        and all(only_reader(node.outputs[0]) is not None for node in between)
    )


def _move_before(model: ir.Model, scale: ir.Node, scores: ir.Node) -> None:
    query, product = input_of(scores, 0), scores.outputs[0]
    factor = next(value for value in scale.inputs if value is not product)
    moved = node(scale.op_type, scale.name or f"{scores.name}/scale", query, factor, like=query, dtype=query.dtype)
    take_place(product, scale.outputs[0])
    model.graph.remove(scale, safe=True)
    model.graph.insert_before(scores, moved)
    scores.replace_input_with(0, moved.outputs[0])
