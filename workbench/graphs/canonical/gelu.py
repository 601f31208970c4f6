"""GELU is recognised by what it computes: any spelling of it becomes the one that runtimes know."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from .. import model_file
from ..structure.builder import Builder, take_place
from ..structure.evaluation import evaluate_all
from ..structure.operators import CURVES, ELEMENTWISE
from ..structure.values import HALVES, array, input_of, inputs_of, is_dense

#: Where a spelling is compared with GELU. The two forms of GELU differ by up to 5e-4 here.
POINTS = np.linspace(-6, 6, 241, dtype=np.float32)
TOLERANCE = 2e-6
#: A 16-bit file holds its constants rounded: 0.044715 in BF16 is 0.2 % off.
HALF_TOLERANCE = 1e-2
ROOT = math.sqrt(2 / math.pi)


def reference(x: np.ndarray, approximate: str) -> np.ndarray:
    """Hendrycks and Gimpel, 2016 (arXiv:1606.08415), section 2: x Φ(x), or its tanh form."""
    x = x.astype(np.float64)
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(ROOT * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def canonicalize(model: ir.Model) -> int:
    """Replace every spelled-out GELU in front of a linear layer.

    From opset 20 on it becomes the Gelu operator. Before, the erf form is spelled as ONNX Runtime fuses it, and the
    tanh form, which nothing fuses, with the fewest operators: 0.5 (1 + tanh u) = sigmoid(2u).

    Returns:
        How many were replaced.
    """
    spelled = spelled_out(model)
    for count, gelu in enumerate(spelled):
        _build(model, gelu, f"gelu.{count}")
    passes.RemoveUnusedNodesPass()(model)
    return len(spelled)


class Spelling(NamedTuple):
    """A GELU written in other operators.

    Attributes:
        source: x.
        result: GELU(x).
        kind: ``none`` or ``tanh``, as ONNX calls the two forms.
        region: the operators.
    """

    source: ir.Value
    result: ir.Value
    kind: str
    region: list[ir.Node]


def spelled_out(model: ir.Model) -> list[Spelling]:
    """Every spelled-out GELU in front of a linear layer."""
    found = {}
    for product in [node for node in model.graph if is_dense(node)]:
        result = input_of(product, 0)
        source, region = _region(result)
        kind = _kind(source, result, region) if source is not None else None
        if source is not None and kind is not None:
            found[result] = Spelling(source, result, kind, region)
    return list(found.values())


def _region(result: ir.Value) -> tuple[ir.Value | None, list[ir.Node]]:
    """The one tensor from which elementwise operators with constant numbers compute ``result``; the operators."""
    region: dict[ir.Node, None] = {}
    sources: set[ir.Value] = set()
    waiting = [result]
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if node is None or not _is_elementwise(node):
            sources.add(value)
        elif node not in region:
            region[node] = None
            waiting += [value for value in inputs_of(node) if array(value) is None]
    return (sources.pop() if len(sources) == 1 else None), list(region)


def _is_elementwise(node: ir.Node) -> bool:
    numbers = [array(v) for v in node.inputs]
    return node.op_type in ELEMENTWISE and all(n is None or n.size == 1 for n in numbers)


def _kind(source: ir.Value, result: ir.Value, region: list[ir.Node]) -> str | None:
    """``none`` or ``tanh`` where the region computes one of the two forms."""
    if not any(node.op_type in CURVES for node in region):
        return None
    computed = _evaluate(source, result, region)
    errors = {kind: np.abs(computed - reference(POINTS, kind)).max() for kind in ("none", "tanh")}
    nearest = min(errors, key=errors.__getitem__)
    tolerance = HALF_TOLERANCE if result.dtype in HALVES else TOLERANCE
    return nearest if errors[nearest] <= tolerance else None


def _evaluate(source: ir.Value, result: ir.Value, region: list[ir.Node]) -> np.ndarray:
    """The result of the region where its source is ``POINTS``, in float32 whatever the file's type is."""
    nodes = [node for node in region[0].graph or () if node in set(region)]
    constants = {str(v.name): found for node in nodes for v in inputs_of(node) if (found := array(v)) is not None}
    wide = {name: found.astype(np.float32) for name, found in constants.items()}
    return evaluate_all(nodes, {str(source.name): POINTS, **wide}, str(result.name))


def _build(model: ir.Model, spelling: Spelling, name: str) -> None:
    """Put the canonical spelling in the place of the one that was found."""
    x, kind = spelling.source, spelling.kind
    op = Builder(model, spelling.region[0], name).op
    if model_file.opset(model) >= 20:
        built = op("Gelu", "gelu", x, approximate=kind)
    elif kind == "none":
        curve = op("Add", "plus_one", op("Erf", "erf", op("Div", "over_root", x, math.sqrt(2))), 1.0)
        built = op("Mul", "half", op("Mul", "gate", x, curve), 0.5)
    else:
        cubic = op("Mul", "cubic", op("Mul", "square", x, x), 2 * ROOT * 0.044715)
        inner = op("Mul", "inner", x, op("Add", "linear", cubic, 2 * ROOT))
        built = op("Mul", "gate", x, op("Sigmoid", "sigmoid", inner))
    take_place(built, spelling.result)
