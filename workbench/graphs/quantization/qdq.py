"""INT8 and FP8 as QuantizeLinear/DequantizeLinear pairs around the inputs of matrix products.

Two layouts, because a CPU and TensorRT want different pairs for the same recipe:

* ``tensorrt``: symmetric s8 (or FP8) everywhere, zero points 0, one scale per output channel of a weight, biases
  as they are. TensorRT refuses zero points and quantized biases. Weights are stored in 8 bits behind a
  DequantizeLinear. Below opset 19 they are stored as rounded float32 numbers before a pair, because TensorRT 8.6,
  for which such files are made, fails on the short form ("convertMyelinWeightsToFp32", 8.6.0 on an H200).
* ``cpu``: activations u8 with a zero point, which spends no level on GELU's missing negative half; weights s8. ONNX
  Runtime fuses pair, product and rescaling into one MatMulIntegerToFloat, and u8 · s8 is the fast kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from ...errors import refuse_unless
from ...records import Recipe
from ..model_file import opset
from ..structure.builder import constant, node
from ..structure.operators import QUANTIZABLE_PRODUCTS, name_of
from ..structure.values import array, elements, input_of
from .qdq_sites import QdqSite, linear_products, qdq_sites
from .ranges import Ranges
from .scales import (
    HALF_SCALES_OPSET,
    Layout,
    ScaleZeroPoint,
    activation_scale,
    channel_amax,
    clipping_point,
    dequantize_weight,
    quantize_weight,
    symmetric,
)


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
        layout: how the recipe rounds, see ``scales.layout_of``.
        stored: the type in which scales will be stored, so that they are rounded before weights are.
        chosen: which nodes of the scope are quantized.

    Returns:
        Notes for the variant.

    Raises:
        WorkbenchError: the graph has nothing that this scope covers.
    """
    sites = qdq_sites(model, recipe.scope)
    refuse_unless(
        bool(sites),
        f"There is nothing to quantize in the scope {recipe.scope}",
        why="the graph has no matrix product with constant weights",
        remedy="choose fp16, or scope='everything'",
    )
    sites = [site for site in sites if chosen(site.node) and (site.index is not None or layout.outputs)]
    products = [product for product in _with_weights(model, recipe.scope) if chosen(product)]
    clipped_at, pairs = {}, {}
    for site in sites:
        tensor = site.tensor
        if tensor not in pairs:
            clipped_at[tensor] = clipping_point(ranges, tensor, recipe.calibration.method, layout)
            scales = activation_scale(ranges.by_tensor[tensor], clipped_at[tensor], layout, stored)
            pairs[tensor] = _pair(model, site, scales)
        for consumer, index in _uses(site):
            consumer.replace_input_with(index, pairs[tensor])
    for product in products:
        quantize_weight_of(model, product, layout, stored)
    return (*_softmax_notes(ranges, clipped_at, layout), *_gelu_notes(ranges, clipped_at, recipe, layout))


def _softmax_notes(ranges: Ranges, clipped_at: Mapping[str, float], layout: Layout) -> tuple[str, ...]:
    used = [point for tensor, point in clipped_at.items() if ranges.by_tensor[tensor].probabilities]
    if not used:
        return ()
    low, high = min(used), max(used)
    return (f"the softmax scales of {len(used)} blocks are {low:.3g} to {high:.3g} over {layout.steps:g}",)


def _gelu_notes(ranges: Ranges, clipped_at: Mapping[str, float], recipe: Recipe, layout: Layout) -> tuple[str, ...]:
    method = recipe.calibration.method
    rows = ((ranges.by_tensor[tensor], point) for tensor, point in clipped_at.items())
    whole = [row.tensor for row, point in rows if row.gelu and point > row.threshold(method)]
    if not whole or layout.is_float:
        return ()
    return (f"the scales of {len(whole)} GELU outputs reach to the largest value: {method} would clip too much",)


def _with_weights(model: ir.Model, scope: str) -> list[ir.Node]:
    """The products of a scope that have constant weights."""
    if scope != "everything":
        return linear_products(model)
    return [n for n in model.graph if n.op_type in QUANTIZABLE_PRODUCTS and array(n.inputs[1]) is not None]


def _pair(model: ir.Model, site: QdqSite, scales: ScaleZeroPoint) -> ir.Value:
    """QuantizeLinear and DequantizeLinear after a tensor; returns what comes out."""
    owner, value = site.node, site.value
    name = f"{owner.name or value.name}/{'output' if site.index is None else f'input{site.index}'}"
    scale = constant(model, f"{name}/scale", scales.scale)
    zero = constant(model, f"{name}/zero", scales.zero_point)
    quantized = node("QuantizeLinear", f"{name}/quantize", value, scale, zero, like=value, dtype=zero.dtype)
    back = node(
        "DequantizeLinear", f"{name}/dequantize", quantized.outputs[0], scale, zero, like=value, dtype=value.dtype
    )
    insert = model.graph.insert_after if site.index is None else model.graph.insert_before
    insert(owner, (quantized, back))
    return back.outputs[0]


def _uses(site: QdqSite) -> list[tuple[ir.Node, int]]:
    """The uses that a pair at this site serves: one input, or every reader of the output."""
    if site.index is not None:
        return [(site.node, site.index)]
    return [(use.node, use.idx) for use in site.value.uses() if use.node.op_type != "QuantizeLinear"]


def quantize_weight_of(model: ir.Model, product: ir.Node, layout: Layout, stored: np.dtype) -> None:
    """Round a product's weights to 8 bits, one scale per output channel."""
    value, name = input_of(product, 1), name_of(product)
    weight = elements(value)
    axis = output_axis(product, weight.ndim)
    scales = symmetric(channel_amax(weight, axis), layout.largest_weight, layout.dtype, stored)
    data = quantize_weight(weight, axis, scales, layout.largest_weight)
    scale = constant(model, f"{name}/weight/scale", scales.scale)
    zero = constant(model, f"{name}/weight/zero", scales.zero_point)
    if layout.unsigned or opset(model) >= HALF_SCALES_OPSET:
        source = constant(model, f"{name}/weight/quantized", data)
    else:
        source = constant(model, f"{name}/weight/rounded", dequantize_weight(data, axis, scales))
        source = _by_channel(model, product, "quantize", source, scale, zero, axis, zero.dtype)
    product.replace_input_with(1, _by_channel(model, product, "dequantize", source, scale, zero, axis, value.dtype))


def _by_channel(model: ir.Model, product: ir.Node, kind: str, source, scale, zero, axis: int, dtype) -> ir.Value:
    """A per-channel QuantizeLinear or DequantizeLinear of a product's weights."""
    name = f"{name_of(product)}/weight/{kind}"
    made = node(f"{kind.title()}Linear", name, source, scale, zero, like=product.inputs[1], dtype=dtype, axis=axis)
    model.graph.insert_before(product, made)
    return made.outputs[0]


def output_axis(product: ir.Node, rank: int) -> int:
    """The axis of the output channels in a product's weights."""
    if product.op_type == "Conv":
        return 0
    if product.op_type == "Gemm":
        return 0 if product.attributes.get_int("transB", 0) else 1
    return rank - 1
