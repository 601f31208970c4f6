"""Every attention of a graph: what stands between q, k, v and the context."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from .masks import hides_nothing, unguarded, unmasked
from .values import array


@dataclass(frozen=True, eq=False)
class Core:
    """What stands between q, k, v and the context: two products around a softmax, or one Attention node."""

    q: ir.Value
    k: ir.Value  # transposed to (B, H, h, S) unless ``fused``
    v: ir.Value
    scale: float | None
    scores: ir.Node
    softmax: ir.Node
    context: ir.Value
    fused: bool = False


def cores(model: ir.Model) -> list[Core]:
    """Every attention in the order of the graph."""
    found = [(_core if node.op_type == "Softmax" else _fused_core)(node) for node in model.graph if _may_be(node)]
    return [core for core in found if core is not None]


def _may_be(node: ir.Node) -> bool:
    return node.op_type in ("Softmax", "Attention") and node.domain in ("", "ai.onnx")


def _core(softmax: ir.Node) -> Core | None:
    """The two products around a softmax over the last axis, or None where it is something else."""
    probabilities = unguarded(softmax.outputs[0])
    axis, last = softmax.attributes.get_int("axis", -1), (rank(probabilities) or 0) - 1
    uses = probabilities.uses()
    context = uses[0].node if len(uses) == 1 else None
    if axis not in (-1, last) or not _is_product(context) or context.inputs[0] is not probabilities:
        return None
    scores, scale = unmasked(softmax.inputs[0]), 1.0
    while (factor := _scaling(scores)) is not None:
        scores, scale = factor[0], scale * factor[1]
    product = scores.producer()
    if not _is_product(product):
        return None
    return Core(
        product.inputs[0], product.inputs[1], context.inputs[1], scale, product, softmax, context.outputs[0]
    )


def _fused_core(node: ir.Node) -> Core | None:
    """An Attention node (opset 23) of q, k and v, each (B, H, S, h), with no mask or one that hides nothing."""
    plain = not any(node.attributes.get_int(name, 0) for name in ("is_causal", "qk_matmul_output_mode"))
    plain &= not node.attributes.get_float("softcap", 0.0)
    plain &= all(v is None or hides_nothing(v) for v in node.inputs[3:4]) and not any(node.inputs[4:])
    plain &= len([v for v in node.outputs if v.uses()]) == 1
    if not plain or any(rank(value) != 4 for value in node.inputs[:3]):
        return None
    scale = node.attributes.get_float("scale") if "scale" in node.attributes else None
    return Core(*node.inputs[:3], scale, node, node, node.outputs[0], fused=True)


def rank(value: ir.Value) -> int | None:
    """How many dimensions a tensor has, or None where that is unknown."""
    return None if value.shape is None else len(value.shape)


def _is_product(node: ir.Node | None) -> bool:
    return node is not None and node.op_type == "MatMul" and not any(array(v) is not None for v in node.inputs)


def _scaling(value: ir.Value) -> tuple[ir.Value, float] | None:
    node = value.producer()
    if node is None or node.op_type not in ("Mul", "Div"):
        return None
    number = array(node.inputs[1])
    if number is None or number.size != 1:
        return None
    return node.inputs[0], float(number.item()) ** (1 if node.op_type == "Mul" else -1)
