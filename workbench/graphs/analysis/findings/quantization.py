"""Q/DQ pairs in the wrong place."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from ...structure.compute_type import quantized_type
from ...structure.operators import (
    CARRIERS,
    INTEGER_OPERATORS,
    PRODUCTS,
    QUANTIZABLE_PRODUCTS,
    QUANTIZERS,
    name_of,
)
from ...structure.placement import PlacedModel
from ...structure.values import array, input_of, producer_of
from .finding import GRAPH, Finding, by_place

_QDQ = "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html"


def quantized_where_it_hurts(placed: PlacedModel, sm: int) -> Iterator[Finding]:
    """8 bits in front of LayerNorm, softmax, GELU and residual additions."""
    if not placed.attentions:
        return  # a convolutional network takes its residuals in 8 bits
    sensitive = [n for n in placed.nodes if _is_sensitive(n) and any(map(quantized_type, n.inputs))]
    yield from by_place(
        placed,
        sensitive,
        "Q/DQ in front of a sensitive operator",
        "warning",
        "Recipe(scope='linear') or scope='attention' leave it in floating point",
        "LayerNorm, softmax, GELU and residuals in 8 bits cost a ViT tens of points of accuracy: FQ-ViT, "
        "arXiv:2111.13824, table 2, against PTQ4ViT, arXiv:2111.12293",
    )


def _is_sensitive(node: ir.Node) -> bool:
    if node.op_type == "Add":  # a residual, not a bias or a mask
        return all(array(value) is None for value in node.inputs)
    return node.op_type in ("LayerNormalization", "Softmax", "Gelu", "Erf", "ReduceMean")


def quantized_on_one_side(placed: PlacedModel, sm: int) -> Iterator[Finding]:
    """Products with Q/DQ on one input only; those inside attention are judged there."""
    own = {n for a in placed.attentions for n in (a.scores, a.context)}
    products = [n for n in placed.nodes if n.op_type in QUANTIZABLE_PRODUCTS and n not in own]
    sides = {n: tuple(quantized_type(value) is not None for value in n.inputs[:2]) for n in products}
    yield from by_place(
        placed,
        [n for n in products if sides[n] == (True, False)],
        "Q/DQ on the activation only",
        "warning",
        "quantize the weight too, as apply_recipe does, or remove the pair",
        f"the product stays in floating point and pays for the pair: {_QDQ}",
    )
    weight_only = [n for n in products if sides[n] == (False, True)]
    stays = f"the product stays in floating point: {_QDQ}"
    if len(weight_only) > 1 and (True, True) not in sides.values():  # meant so, as by w8 and w4
        yield Finding(
            "Q/DQ on the weight only",
            "note",
            GRAPH,
            "nothing where a smaller file is all that is wanted; otherwise quantize the activations too",
            stays,
            tuple(map(name_of, weight_only)),
        )
        return
    yield from by_place(
        placed,
        weight_only,
        "Q/DQ on the weight only",
        "note",
        "quantize the activation too, unless a smaller file is all that is wanted",
        stays,
    )


def pairs_without_product(placed: PlacedModel, sm: int) -> Iterator[Finding]:
    """DequantizeLinear that leads neither to a product nor to a sensitive operator, which is found by itself."""
    idle = [
        n
        for n in placed.nodes
        if n.op_type == "DequantizeLinear"
        and _is_rounded(n.inputs[0])
        and not any(_useful(reader) for reader, _ in n.outputs[0].uses())
    ]
    yield from by_place(
        placed,
        idle,
        "Q/DQ without a product",
        "warning",
        "place the pair on the input of the MatMul, Gemm or Conv that shall compute in 8 bits",
        f"rounding without any work in 8 bits: {_QDQ}",
    )


def _is_rounded(value: ir.Value | None) -> bool:
    """Whether a tensor comes out of a QuantizeLinear; that of a product in integers has done its work."""
    node = producer_of(value)
    if node is None or node.op_type not in CARRIERS:
        return node is not None and node.op_type in QUANTIZERS
    return _is_rounded(node.inputs[0])


def _useful(reader: ir.Node, steps: int = 6) -> bool:
    """Whether a reader is, or only moves numbers to, something that is judged as a reader of 8 bits.

    A pair on the output of attention's second product is useful although a reshape reads it: TensorRT asks for it.
    """
    if reader.op_type in (*PRODUCTS, *QUANTIZERS) or _is_sensitive(reader):
        return True
    if not steps or reader.op_type not in CARRIERS:
        return False
    return any(_useful(next_, steps - 1) for value in reader.outputs for next_, _ in value.uses())


def refused_by_tensorrt(placed: PlacedModel, sm: int) -> Iterator[Finding]:
    """Zero points other than 0 and biases in 32 bits, which TensorRT refuses."""
    pairs = asymmetric(placed)
    if pairs:
        yield Finding(
            "zero points other than 0",
            "note",
            GRAPH,
            "for TensorRT write it with Recipe(layout='tensorrt')",
            f"right for a CPU; TensorRT takes symmetric quantization only: {_QDQ}",
            tuple(map(name_of, pairs)),
        )
    biases = [
        n for n in placed.nodes if n.op_type == "DequantizeLinear" and input_of(n, 0).dtype == ir.DataType.INT32
    ]
    yield from by_place(
        placed,
        biases,
        "bias in 32 bits",
        "warning",
        "quantize without the bias (apply_recipe does; QuantizeBias=False for quantize_static)",
        "TensorRT refuses DequantizeLinear on INT32",
    )


def asymmetric(placed: PlacedModel) -> list[ir.Node]:
    """QuantizeLinear nodes with a zero point other than 0."""
    pairs = (n for n in placed.nodes if n.op_type == "QuantizeLinear" and len(n.inputs) > 2)
    return [n for n in pairs if (zero := array(n.inputs[2])) is not None and zero.astype(np.float32).any()]


def written_for_a_cpu(placed: PlacedModel) -> bool:
    """Whether a file's 8 bits are those of a CPU: zero points other than 0, or integers all through a product."""
    return bool(asymmetric(placed)) or any(node.op_type in INTEGER_OPERATORS for node in placed.nodes)
