"""The type that a node computes in: that of its tensors, or of the Q/DQ on both inputs of a product."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import onnx_ir as ir

from ...dtypes import of_onnx
from .attention import Attention
from .operators import ATTENTION_OPERATORS, CARRIERS, DEQUANTIZERS, PRODUCTS
from .values import optional_input, producer_of


class AttentionTypes(NamedTuple):
    """``high``: the type around an attention; ``low``: of its Q/DQ, or None; ``sites``: the tensors with Q/DQ."""

    high: str
    low: str | None
    sites: frozenset[str]


def type_of(node: ir.Node) -> str | None:
    """The type that a node computes in, ``int8`` or ``fp16``; None for a type without products, such as int64."""
    if node.op_type in PRODUCTS and node.op_type not in ATTENTION_OPERATORS:
        low = [quantized_type(value) for value in node.inputs[:2]]
        if all(low):
            return low[0]
    return next(filter(None, map(_product_type, (*node.inputs, *node.outputs))), None)


def types_of_products(nodes: Iterable[ir.Node]) -> frozenset[str]:
    """The types in which any matrix product computes."""
    return frozenset(kind for node in nodes if node.op_type in PRODUCTS and (kind := type_of(node)))


def attention_types(attention: Attention) -> AttentionTypes:
    """The types of an attention; its sites are ``query``, ``key``, ``value``, ``softmax`` and ``context``."""
    high = _product_type(attention.scores.outputs[0]) or "fp32"
    if attention.is_operator:
        return AttentionTypes(high, None, frozenset())
    read = {
        "query": attention.query,
        "key": attention.key,
        "softmax": attention.probabilities,
        "value": attention.value,
    }
    types = {site: quantized_type(value) for site, value in read.items()}
    types["context"] = _written_type(attention.result)
    low = next(filter(None, types.values()), None)
    return AttentionTypes(high, low, frozenset(site for site, kind in types.items() if kind))


def quantized_type(value: ir.Value | None) -> str | None:
    """``int8``, ``fp8`` or ``fp4`` for a tensor out of a DequantizeLinear, moved or cast on the way or not."""
    while (node := producer_of(value)) is not None:
        if node.op_type in DEQUANTIZERS:
            return _product_type(node.inputs[0]) or "int8"
        if node.op_type not in CARRIERS:
            return None
        value = optional_input(node, 0)
    return None


def _product_type(value: ir.Value | None) -> str | None:
    """The type in which products of this tensor compute, or None where there are no such products."""
    kind = of_onnx(value.dtype) if value is not None else None
    return kind.multiplies_in if kind else None


def _written_type(value: ir.Value) -> str | None:
    """The type into which all readers of a tensor quantize it, or None."""
    kinds = set()
    for reader, _ in value.uses():
        if reader.op_type == "Cast":
            kinds.add(_written_type(reader.outputs[0]))
        else:
            kinds.add(_product_type(reader.outputs[0]) if reader.op_type == "QuantizeLinear" else None)
    return kinds.pop() if len(kinds) == 1 else None
