"""GELU by what it computes: any spelling of it becomes the one that runtimes know."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnx.reference import ReferenceEvaluator

from .. import model_file
from ..structure.builder import Builder, take_place
from ..structure.provenance import is_linear
from ..structure.values import array

ELEMENTWISE = ("Mul", "Div", "Add", "Sub", "Pow", "Erf", "Tanh", "Sigmoid", "Identity", "Neg", "Sqrt", "Exp")
CURVES = ("Erf", "Tanh", "Sigmoid", "Exp")
#: Where a spelling is compared with GELU. The two forms of GELU differ by up to 5e-4 here.
POINTS = np.linspace(-6, 6, 241, dtype=np.float32)
TOLERANCE = 2e-6
ROOT = math.sqrt(2 / math.pi)


def gelu(x: np.ndarray, approximate: str) -> np.ndarray:
    """Hendrycks and Gimpel, 2016 (arXiv:1606.08415), section 2: x Φ(x), or its tanh form."""
    x = x.astype(np.float64)
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(ROOT * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def redraw(model: ir.Model) -> int:
    """Replace every spelled-out GELU in front of a linear layer.

    From opset 20 on it becomes the Gelu operator. Before, the erf form is spelled as ONNX Runtime fuses it, and the
    tanh form, which nothing fuses, with the fewest operators: 0.5 (1 + tanh u) = sigmoid(2u).

    Returns:
        How many were replaced.
    """
    spelled = spelled_out(model)
    for count, (source, result, kind, _) in enumerate(spelled):
        _draw(model, source, result, kind, f"gelu.{count}")
    passes.RemoveUnusedNodesPass()(model)
    return len(spelled)


class Spelling(NamedTuple):
    """A GELU in other operators: what it is computed of, its result, ``none`` or ``tanh``, and the operators."""

    source: ir.Value
    result: ir.Value
    kind: str
    region: list[ir.Node]


def spelled_out(model: ir.Model) -> list[Spelling]:
    """Every spelled-out GELU in front of a linear layer."""
    found = {}
    for product in [node for node in model.graph if is_linear(node)]:
        result = product.inputs[0]
        source, region = _region(result)
        kind = _kind(source, result, region)
        if kind is not None:
            found[result] = Spelling(source, result, kind, region)
    return list(found.values())


def _region(result: ir.Value) -> tuple[ir.Value | None, list[ir.Node]]:
    """The one tensor that elementwise operators with constant numbers make ``result`` of, and those operators."""
    region, sources, waiting = {}, set(), [result]
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if node is None or not _is_elementwise(node):
            sources.add(value)
        elif node not in region:
            region[node] = None
            waiting += [v for v in node.inputs if array(v) is None]
    return (sources.pop() if len(sources) == 1 else None), list(region)


def _is_elementwise(node: ir.Node) -> bool:
    numbers = [array(v) for v in node.inputs]
    return node.op_type in ELEMENTWISE and all(n is None or n.size == 1 for n in numbers)


def _kind(source: ir.Value | None, result: ir.Value, region: list[ir.Node]) -> str | None:
    """``none`` or ``tanh``, as ONNX calls the two forms, where the region computes one of them."""
    if source is None or not any(node.op_type in CURVES for node in region):
        return None
    computed = _evaluate(source, result, region)
    for kind in ("none", "tanh"):
        if np.allclose(computed, gelu(POINTS, kind), rtol=0, atol=TOLERANCE):
            return kind
    return None


def _evaluate(source: ir.Value, result: ir.Value, region: list[ir.Node]) -> np.ndarray:
    graph = region[0].graph
    nodes = [ir.serde.serialize_node(node) for node in graph if node in set(region)]
    inputs = {name for node in nodes for name in node.input}
    constants = {name: array(graph.initializers[name]) for name in inputs if name in graph.initializers}
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes,
            "curve",
            [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in (source.name, *constants)],
            [onnx.helper.make_value_info(result.name, onnx.TypeProto())],
        ),
        opset_imports=[onnx.helper.make_opsetid("", graph.opset_imports[""])],
    )
    return ReferenceEvaluator(model).run(None, {source.name: POINTS, **constants})[0]


def _draw(model: ir.Model, x: ir.Value, result: ir.Value, kind: str, name: str) -> None:
    op = Builder(model, result.producer(), name).op
    if model_file.opset(model) >= 20:
        drawn = op("Gelu", "gelu", x, approximate=kind)
    elif kind == "none":
        curve = op("Add", "plus_one", op("Erf", "erf", op("Div", "over_root", x, math.sqrt(2))), 1.0)
        drawn = op("Mul", "half", op("Mul", "gate", x, curve), 0.5)
    else:
        cubic = op("Mul", "cubic", op("Mul", "square", x, x), 2 * ROOT * 0.044715)
        inner = op("Mul", "inner", x, op("Add", "linear", cubic, 2 * ROOT))
        drawn = op("Mul", "gate", x, op("Sigmoid", "sigmoid", inner))
    take_place(drawn, result)
