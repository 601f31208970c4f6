"""Types that slow a graph down or break its numbers: islands, casts, weights beyond a type."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from ....backends.hardware.cards import sm_name
from ....dtypes import HALVES, TYPES
from ...structure.compute_type import type_of, types_of_products
from ...structure.operators import PRODUCTS
from ...structure.placement import PlacedModel
from ...structure.values import FLOATS, elements, input_of, inputs_of, producer_of
from .finding import GRAPH, Finding, by_place

FP16_MAX = TYPES["fp16"].largest


def float32_islands(placed: PlacedModel, sm: int) -> Iterator[Finding]:
    """Products and GELUs in FP32 in a graph whose other products are 16 bits wide.

    LayerNorm and means are left out: their sums belong in FP32. So is a softmax between casts, which TensorRT for
    RTX 1.7 fuses all the same.
    """
    if not types_of_products(placed.nodes).intersection(HALVES):
        return
    island = [n for n in placed.nodes if n.op_type in (*PRODUCTS, "Gelu") and type_of(n) == "fp32"]
    beyond = {n for n in island if any(_amax(value) > FP16_MAX for value in n.inputs)}
    yield from by_place(
        placed,
        (n for n in island if n not in beyond),
        "FP32 island",
        "warning",
        "leave this place out of Recipe.exclude, or cast it with apply_recipe from the FP32 graph",
        "FP32 products run at a fraction of the 16-bit speed, and a cast stands at either end",
    )
    yield from by_place(
        placed,
        beyond,
        "FP32 island",
        "note",
        "Recipe(precision='bf16') or high_precision='bf16': BF16 reaches as far as FP32",
        f"its weights exceed {FP16_MAX:,.0f}, so FP16 cannot hold them",
    )


def types_the_card_lacks(placed: PlacedModel, sm: int) -> Iterator[Finding]:
    """Types that the tensor cores of an architecture do not know."""
    for name in sorted(types_of_products(placed.nodes)):
        if not TYPES[name].runs_on(sm):
            yield Finding(
                "type without tensor cores",
                "error",
                GRAPH,
                f"choose fp16 or int8, or a card from {sm_name(TYPES[name].first_sm)} on",
                f"{sm_name(sm)} has no {name} products, so that TensorRT refuses to build",
            )


def casts(placed: PlacedModel, sm: int) -> Iterator[Finding]:
    """Casts that could be left out: there and back, twice the same, or of weights."""
    floating = [n for n in placed.nodes if n.op_type == "Cast" and _is_floating(n)]
    back = [n for n in floating if _undone(n)]
    yield from by_place(
        placed,
        back,
        "cast there and back",
        "warning",
        "remove both casts and read the tensor before the first",
        "nothing is computed between the two, and where the middle type is narrower, digits are lost",
    )
    yield from by_place(
        placed,
        _repeated(floating),
        "the same cast twice",
        "note",
        "let all readers share the first cast",
        "each cast writes the tensor once more",
    )
    yield from by_place(
        placed,
        (n for n in floating if _is_weight(n.inputs[0])),
        "weight cast at run time",
        "note",
        "store the weight in the type that is read: apply_recipe on the FP32 graph does",
        "a runtime that does not fold constants casts it at every call, and the file holds the wider type",
    )


def _is_floating(cast: ir.Node) -> bool:
    return input_of(cast, 0).dtype in FLOATS and cast.outputs[0].dtype in FLOATS


def _undone(cast: ir.Node) -> bool:
    before = producer_of(cast.inputs[0])
    return before is not None and before.op_type == "Cast" and input_of(before, 0).dtype == cast.outputs[0].dtype


def _repeated(casts_: list[ir.Node]) -> list[ir.Node]:
    """The casts of a tensor to a type that an earlier one makes already."""
    first = {}
    return [n for n in casts_ if first.setdefault((n.inputs[0], n.outputs[0].dtype), n) is not n]


def weights_beyond_fp16(placed: PlacedModel, sm: int) -> Iterator[Finding]:
    """Weights that are not finite, and those that FP16 would make infinite."""
    readers = [(n, _amax(value), value.dtype) for n in placed.nodes for value in inputs_of(n) if _is_weight(value)]
    yield from by_place(
        placed,
        (n for n, amax, _ in readers if not math.isfinite(amax)),
        "weight is not finite",
        "error",
        "convert the checkpoint again, or write the graph in bf16 or fp32",
        "an infinity in a product makes NaN of a whole row",
    )
    yield from by_place(
        placed,
        (n for n, amax, kind in readers if kind == ir.DataType.FLOAT and FP16_MAX < amax < math.inf),
        "weight overflows FP16",
        "warning",
        "Recipe(precision='bf16'); with precision='fp16', apply_recipe leaves this layer in FP32",
        f"FP16 ends at {FP16_MAX:,.0f} (IEEE 754 binary16)",
    )


def _is_weight(value: ir.Value | None) -> bool:
    return (
        value is not None and value.const_value is not None and value.dtype in FLOATS and value.const_value.size > 1
    )


def _amax(value: ir.Value | None) -> float:
    if not _is_weight(value):
        return 0.0
    amax = np.abs(elements(value).astype(np.float32)).max()
    return float(amax) if np.isfinite(amax) else math.inf
