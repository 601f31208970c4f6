"""INT8 and FP8 as QuantizeLinear/DequantizeLinear pairs around the inputs of matrix products.

Two layouts, because a CPU and TensorRT want different pairs for the same recipe:

* ``tensorrt``: symmetric s8 (or FP8) everywhere, zero points 0, one scale per output channel of a weight, biases
  as they are. TensorRT refuses zero points and quantized biases. Weights are stored in 8 bits behind a
  DequantizeLinear; below opset 19 as float32 numbers on the grid before a pair, because TensorRT 8.6, for which
  such files are made, fails on the short form ("convertMyelinWeightsToFp32", 8.6.0 on an H200).
* ``cpu``: activations u8 with a zero point, which spends no level on GELU's missing negative half; weights s8. ONNX
  Runtime fuses pair, product and rescaling into one MatMulIntegerToFloat, and u8 · s8 is the fast kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from ...errors import refuse_unless
from ...records import Recipe
from ..model_file import opset
from ..structure.builder import constant, node
from ..structure.values import array
from . import thresholds
from .histogram import magnitudes
from .qdq_sites import PRODUCTS, QdqSite, linear_products, qdq_sites
from .ranges import Ranges, TensorRange
from .scales import (
    FP8,
    FP8_MAX,
    HALF_SCALES_OPSET,
    Grid,
    asymmetric,
    channel_amax,
    dequantize_weight,
    quantize_weight,
    symmetric,
)

INT8 = np.dtype(np.int8)


class Layout(NamedTuple):
    """How one layout of one precision rounds: the types, the largest magnitudes, where pairs go."""

    kind: np.dtype
    largest: float
    largest_weight: float
    unsigned: bool = False
    outputs: bool = True


def layout_of(recipe: Recipe, largest_weight: int) -> Layout:
    """The layout of a recipe; FP8 exists for TensorRT alone."""
    if recipe.precision == "fp8":
        return Layout(FP8, FP8_MAX, FP8_MAX)
    if recipe.layout == "cpu":
        return Layout(INT8, 127, largest_weight, unsigned=True, outputs=False)
    return Layout(INT8, 127, 127)


def quantize(
    model: ir.Model,
    recipe: Recipe,
    ranges: Ranges,
    layout: Layout,
    stored: np.dtype,
    chosen: Callable[[ir.Node], bool],
) -> tuple[str, ...]:
    """Insert Q/DQ pairs into a float32 model, in place.

    Args:
        model: changed in place.
        recipe: its scope and calibration method.
        ranges: of every tensor in the scope.
        layout: see ``layout_of``.
        stored: the type in which scales will be stored, so that they are rounded before weights are.
        chosen: which nodes of the scope are quantized.

    Returns:
        Notes for the variant.
    """
    there = qdq_sites(model, recipe.scope)
    refuse_unless(
        bool(there),
        f"There is nothing to quantize in the scope {recipe.scope}",
        why="the graph has no matrix product with constant weights",
        remedy="choose fp16, or scope='everything'",
    )
    wanted = [p for p in there if chosen(p.node)]
    products = [p for p in _weighted(model, recipe.scope) if chosen(p)]
    pairs: dict[str, ir.Value] = {}
    softmax, whole = [], []
    for site in wanted:
        if site.index is None and not layout.outputs:
            continue
        value = site.value
        if value.name not in pairs:
            threshold = clipping_point(ranges, value.name, recipe, layout)
            if site.probabilities:
                softmax.append(threshold)
            if site.gelu and threshold > ranges.by_tensor[value.name].threshold(recipe.calibration.method):
                whole.append(value.name)
            grid = activation_grid(ranges.by_tensor[value.name], threshold, layout, stored)
            pairs[value.name] = _pair(model, site, grid)
        for consumer, index in _uses(site):
            consumer.replace_input_with(index, pairs[value.name])
    for product in products:
        _quantize_weight(model, product, layout, stored)
    return (*_softmax_notes(softmax, layout), *_gelu_notes(whole, recipe, layout))


def _softmax_notes(thresholds_used: list[float], layout: Layout) -> tuple[str, ...]:
    if not thresholds_used:
        return ()
    low, high = min(thresholds_used), max(thresholds_used)
    steps = 255 if layout.unsigned else layout.largest
    return (f"the softmax scales of {len(thresholds_used)} blocks are {low:.3g} to {high:.3g} over {steps:g}",)


def _gelu_notes(whole: list[str], recipe: Recipe, layout: Layout) -> tuple[str, ...]:
    if not whole or layout.kind == FP8:
        return ()
    method = recipe.calibration.method
    return (f"the scales of {len(whole)} GELU outputs reach to the largest value: {method} would clip too much",)


def _weighted(model: ir.Model, scope: str) -> list[ir.Node]:
    """The products of a scope that have constant weights."""
    if scope != "everything":
        return linear_products(model)
    return [n for n in model.graph if n.op_type in PRODUCTS and array(n.inputs[1]) is not None]


def clipping_point(ranges: Ranges, tensor: str, recipe: Recipe, layout: Layout) -> float:
    """The magnitude that the largest quantized number stands for.

    FP8 takes the largest magnitude seen: a float keeps its relative precision, so clipping would gain nothing.
    Probabilities and a GELU's output take whichever loses least on the calibration images: the method's threshold
    or the largest seen, and for probabilities 1. Most of their values crowd near zero, so that a method that clips
    takes the few large ones for outliers; but these are what attention, and the MLP, are about.
    """
    row = ranges.by_tensor[tensor]
    if layout.kind == FP8:
        return row.minmax
    threshold = row.threshold(recipe.calibration.method)
    if not (row.unit_interval or row.gelu):
        return threshold
    edges, counts = ranges.histogram(tensor)
    folded = magnitudes(counts, edges[-1], row.minmax)
    steps = 255 if layout.unsigned else 127
    candidates = (threshold, row.minmax, *([1.0] if row.unit_interval else []))
    return min(candidates, key=lambda t: thresholds.squared_error(*folded, t, steps))


def activation_grid(row: TensorRange, threshold: float, layout: Layout, stored: np.dtype) -> Grid:
    """The grid of one activation, clipped at a threshold."""
    if layout.unsigned:
        return asymmetric(max(row.low, -threshold), min(row.high, threshold), stored)
    return symmetric(threshold, layout.largest, layout.kind, stored)


def _pair(model: ir.Model, site: QdqSite, grid: Grid) -> ir.Value:
    """QuantizeLinear and DequantizeLinear after a tensor; returns what comes out."""
    owner, value = site.node, site.value
    name = f"{owner.name or value.name}/{'output' if site.index is None else f'input{site.index}'}"
    scale = constant(model, f"{name}/scale", grid.scale)
    zero = constant(model, f"{name}/zero", grid.zero)
    to_grid = node("QuantizeLinear", f"{name}/quantize", value, scale, zero, like=value, dtype=zero.dtype)
    back = node(
        "DequantizeLinear", f"{name}/dequantize", to_grid.outputs[0], scale, zero, like=value, dtype=value.dtype
    )
    insert = model.graph.insert_after if site.index is None else model.graph.insert_before
    insert(owner, (to_grid, back))
    return back.outputs[0]


def _uses(site: QdqSite) -> list[tuple[ir.Node, int]]:
    """The uses that a pair at this site serves: one input, or every reader of the output."""
    if site.index is not None:
        return [(site.node, site.index)]
    return [use for use in site.value.uses() if use[0].op_type != "QuantizeLinear"]


def _quantize_weight(model: ir.Model, product: ir.Node, layout: Layout, stored: np.dtype) -> None:
    """Round a product's weights to 8 bits, one scale per output channel."""
    value, name = product.inputs[1], product.name or product.outputs[0].name
    weight, axis = array(value), _output_axis(product)
    grid = symmetric(channel_amax(weight, axis), layout.largest_weight, layout.kind, stored)
    data = quantize_weight(weight, axis, grid, layout.largest_weight)
    scale, zero = (constant(model, f"{name}/weight/{kind}", getattr(grid, kind)) for kind in ("scale", "zero"))
    if layout.unsigned or opset(model) >= HALF_SCALES_OPSET:
        source = constant(model, f"{name}/weight/quantized", data)
    else:
        source = constant(model, f"{name}/weight/on-grid", dequantize_weight(data, axis, grid))
        source = _by_channel(model, product, "quantize", source, scale, zero, axis, zero.dtype)
    product.replace_input_with(1, _by_channel(model, product, "dequantize", source, scale, zero, axis, value.dtype))


def _by_channel(model: ir.Model, product: ir.Node, kind: str, source, scale, zero, axis: int, dtype) -> ir.Value:
    """A per-channel QuantizeLinear or DequantizeLinear of a product's weights."""
    name = f"{product.name or product.outputs[0].name}/weight/{kind}"
    made = node(f"{kind.title()}Linear", name, source, scale, zero, like=product.inputs[1], dtype=dtype, axis=axis)
    model.graph.insert_before(product, made)
    return made.outputs[0]


def _output_axis(product: ir.Node) -> int:
    """The axis of the output channels in a product's weights."""
    if product.op_type == "Conv":
        return 0
    if product.op_type == "Gemm":
        transposed = product.attributes.get("transB")
        return 0 if transposed is not None and transposed.as_int() else 1
    return len(product.inputs[1].shape) - 1
