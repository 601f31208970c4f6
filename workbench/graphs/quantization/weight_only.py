"""``w8`` and ``w4``: weights in 8 or 4 bits in the file and in memory, expanded before the product.

The product itself computes in the model's own type, so nothing is calibrated and no activation is rounded. That
saves memory traffic, which is what a ViT at batch 1 waits for; at large batches it saves no time. ``w8`` has one
scale per output channel, ``w4`` one per block of 32 weights. ONNX Runtime fuses a DequantizeLinear of INT4 and its
MatMul into one ``MatMulNBits``, which rounds activations to 8 bits of its own accord.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ...records import PRECISIONS, Recipe
from ..structure.builder import constant, node
from ..structure.operators import name_of
from ..structure.values import elements
from .block_scaled import summed_axis, why_whole
from .block_scales import int4
from .qdq import quantize_weight_of
from .qdq_sites import linear_products
from .scales import WEIGHTS


def quantize_weights(
    model: ir.Model, recipe: Recipe, stored: np.dtype, chosen: Callable[[ir.Node], bool]
) -> tuple[str, ...]:
    """Rewrite the weights of the linear layers of a float32 model in place.

    Args:
        model: changed in place.
        recipe: its precision is ``w8`` or ``w4``.
        stored: the type in which scales will be stored, so that they are rounded before weights are.
        chosen: which linear layers are quantized.

    Returns:
        Notes for the variant: the layers that cannot be cut into blocks.
    """
    notes = []
    for product in filter(chosen, linear_products(model)):
        if recipe.precision == "w8":
            quantize_weight_of(model, product, WEIGHTS, stored)
        elif why := why_whole(product, PRECISIONS["w4"].block):
            notes.append(f"{name_of(product)} is left in {recipe.resolved_high_precision}: {why}")
        else:
            _write_int4(model, product, stored)
    return tuple(notes)


def _write_int4(model: ir.Model, product: ir.Node, stored: np.dtype) -> None:
    value, name, axis = product.inputs[1], name_of(product), summed_axis(product)
    blocks = int4(elements(value), axis, stored)
    low = constant(model, f"{name}/weight/quantized", blocks.elements)
    scales = constant(model, f"{name}/weight/scales", blocks.scales)
    settings = {"axis": axis, "block_size": PRECISIONS["w4"].block}
    expand = node(
        "DequantizeLinear",
        f"{name}/weight/dequantize",
        low,
        scales,
        like=value,
        dtype=ir.DataType.FLOAT,
        **settings,
    )
    model.graph.insert_before(product, expand)
    product.replace_input_with(1, expand.outputs[0])
