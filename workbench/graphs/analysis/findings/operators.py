"""Operators in pieces, and shapes that are computed while the model runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

import onnx_ir as ir

from ...canonical.gelu import spelled_out
from ...structure.naming import CLEAN
from ...structure.operators import CURVES
from ...structure.placement import PlacedModel
from ...structure.values import array, input_of, number, producer_of
from .finding import Finding, by_place

_LAYERNORM = "https://onnx.ai/onnx/operators/onnx__LayerNormalization.html"
_FUSIONS = "https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html"
_GELU = "https://onnx.ai/onnx/operators/onnx__Gelu.html"


def normalization_in_pieces(placed: PlacedModel, sm: int) -> Iterator[Finding]:
    """LayerNorm as means, squares and roots; found by its root of a mean."""
    roots = [n for n in placed.nodes if n.op_type in ("Sqrt", "Pow") and _averages(n, placed)]
    yield from by_place(
        placed,
        roots,
        "LayerNorm in pieces",
        "warning",
        "import_onnx puts it together; export_onnx writes one LayerNormalization, torch does with opset_version=17 "
        "or above",
        f"one LayerNormalization reads its input once, and keeps its statistics in float32: {_LAYERNORM}",
    )


def _averages(root: ir.Node, placed: PlacedModel) -> bool:
    """Whether a mean of squares is at most four steps above: epsilon, Max and Sub may stand between."""
    if root.op_type == "Pow" and not _is_number(root.inputs[1], 0.5):
        return False
    near = islice(placed.walker.upstream(input_of(root, 0)), 4)
    return any(n.op_type == "ReduceMean" for n in near)


def gelu_in_pieces(placed: PlacedModel, sm: int) -> Iterator[Finding]:
    """GELU spelled out in a way that ONNX Runtime does not fuse: any but Erf of a quotient by √2."""
    for spelling in spelled_out(placed.model):
        curve = next((node for node in spelling.region if node.op_type in CURVES), spelling.region[0])
        if curve.op_type == "Erf" and _divides_by_root(producer_of(curve.inputs[0])):
            continue
        yield from by_place(
            placed,
            [curve],
            "GELU in pieces",
            "warning",
            "export with opset=20 or above, where Gelu is one operator"
            + ("" if spelling.kind == "tanh" else "; import_onnx spells it as ONNX Runtime fuses it at any opset"),
            f"ONNX Runtime passes {len(spelling.region)} times over the block's widest tensor. TensorRT fuses it "
            f"by itself, and 8.6 reads opset 17 only: leave it there. {_GELU}, {_FUSIONS}",
        )


def _divides_by_root(node: ir.Node | None) -> bool:
    return node is not None and node.op_type == "Div" and _is_number(node.inputs[1], math.sqrt(2))


def _is_number(value: ir.Value | None, wanted: float) -> bool:
    found = number(value)
    return found is not None and math.isclose(found, wanted, rel_tol=1e-3)


def shapes_at_run_time(placed: PlacedModel, sm: int) -> Iterator[Finding]:
    """Shapes that are computed inside a block."""
    static = "export it with a static batch"
    cleaned = placed.model.graph.name == CLEAN  # by an import or export, which folded what it could
    moving = ("Shape", "Reshape", "Expand", "Slice", "ConstantOfShape")
    inside = [n for n in placed.nodes if n.op_type in moving and placed.block(n)]
    yield from by_place(
        placed,
        (n for n in inside if n.op_type == "Shape" or any(array(v) is None for v in n.inputs[1:] if v is not None)),
        "shape computed at run time",
        "warning",
        static if cleaned else f"import_onnx writes shapes as constants with 0 or -1 for the batch; or {static}",
        "small operators on the host between the kernels; some fusions want to know head size and tokens",
    )
