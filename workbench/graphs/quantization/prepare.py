"""The form of a float32 graph that ranges are taken of and recipes are applied to."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as passes

from ...errors import refuse_unless
from ...records import Graph
from ..model_file import load
from ..structure.builder import node, take_place
from ..structure.values import FLOATS, array

QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearMatMul")


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
        name = each.name or each.outputs[0].name
        refuse_unless(
            each.op_type not in QUANTIZED,
            "The graph is quantized already",
            why=f"{name} is a {each.op_type}",
            remedy="start from the float32 graph; a recipe is applied once, to what export_onnx made",
        )
        refuse_unless(
            all(value.dtype not in FLOATS[1:] for value in each.outputs),
            "The graph computes in 16 bits already",
            why=f"{name} writes {each.outputs[0].dtype}",
            remedy="start from the float32 graph",
        )


def scale_queries(model: ir.Model) -> None:
    """Turn softmax(s · q kᵀ) into softmax((s · q) kᵀ), in place, so that the scores stay √d times smaller.

    For heads of 16, 64 or 256 channels s is a power of two and nothing changes but the range; q is also the smaller
    tensor to multiply.
    """
    for softmax in [each for each in model.graph if each.op_type == "Softmax"]:
        scale = softmax.inputs[0].producer()
        if scale is None or scale.op_type not in ("Mul", "Div") or len(scale.outputs[0].uses()) != 1:
            continue
        places = [i for i, value in enumerate(scale.inputs) if array(value) is not None and array(value).size == 1]
        if not places or (scale.op_type == "Div" and places != [1]):
            continue
        scores = scale.inputs[1 - places[0]].producer()
        if scores is not None and scores.op_type == "MatMul" and len(scores.outputs[0].uses()) == 1:
            _move_before(model, scale, places[0], scores)


def _move_before(model: ir.Model, scale: ir.Node, place: int, scores: ir.Node) -> None:
    query, factor = scores.inputs[0], scale.inputs[place]
    moved = node(scale.op_type, scale.name or f"{scores.name}/scale", query, factor, like=query, dtype=query.dtype)
    take_place(scores.outputs[0], scale.outputs[0])
    model.graph.remove(scale, safe=True)
    model.graph.insert_before(scores, moved)
    scores.replace_input_with(0, moved.outputs[0])
