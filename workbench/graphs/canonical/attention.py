"""The canonical form of self-attention: one product for q, k and v, one split, two products around a softmax.

    n -> MatMul, Add -> Reshape (B, S, 3H, h) -> Transpose (B, 3H, S, h) -> Split in q, k, v -> Transpose of k
      -> Mul of q, MatMul, Softmax, MatMul -> Transpose, Reshape (B, S, D) -> MatMul, Add

Splitting after one transposition, rather than before three, leaves TensorRT one kernel between the product and the
fused attention where it needs three otherwise, and lets it fuse the bias into the product. Scaling q rather than
the scores keeps the scores √h times smaller, which FP16 needs, and multiplies the smaller tensor.
"""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as passes

from ..structure.attention import Attention, find_attentions
from ..structure.builder import Builder, take_place
from .index_tracking import NotMoved
from .projections import Merge, Projections, find_merge, find_projections, trial_extent


def canonicalize(model: ir.Model) -> int:
    """Write every plain self-attention in the canonical form; others stay as they are.

    Returns:
        How many were written.
    """
    given, written = _batch_names(model.graph.inputs[0]), 0
    for number, attention in enumerate(each for each in find_attentions(model) if each.is_plain):
        try:
            inner = find_projections(attention, given)
            batch, tokens, _ = trial_extent(inner.source)
            symbols = given | _batch_names(inner.source)  # shape inference may have lost the name on the way
            outer = find_merge(attention, (batch, inner.heads, tokens, inner.head_size), symbols)
        except NotMoved:
            continue
        _build(model, attention, inner, outer, f"attention.{number}")
        written += 1
    passes.RemoveUnusedNodesPass()(model)
    return written


def _batch_names(value: ir.Value) -> frozenset[str]:
    """What a tensor's first dimension is called, where it has a name."""
    name = getattr(value.shape[0], "value", None) if value.shape else None
    return frozenset() if name is None else frozenset([name])


def _build(model: ir.Model, attention: Attention, inner: Projections, outer: Merge, name: str) -> None:
    """Put the nodes of the canonical form in the place of what was there."""
    heads, size = inner.heads, inner.head_size
    build = Builder(model, attention.softmax, name)
    build.origin = inner.product
    qkv = build.dense("qkv", inner.source, inner.weight, inner.bias)
    build.origin = attention.query.producer() or inner.product
    y = build.op("Reshape", "heads", qkv, build.ints("heads/shape", [0, 0, 3 * heads, size]))
    y = build.op("Transpose", "order", y, perm=[0, 2, 1, 3])
    q, k, v = build.node("Split", "split", y, build.ints("split/sizes", [heads] * 3), outputs=3, axis=1).outputs
    k = build.op("Transpose", "k_transposed", k, perm=[0, 1, 3, 2])
    build.origin = attention.scores
    scores = build.op("MatMul", "scores", build.op("Mul", "scale", q, inner.scale), k)
    build.origin = attention.softmax
    probabilities = build.op("Softmax", "softmax", scores, axis=-1)
    build.origin = attention.context
    y = build.op("MatMul", "context", probabilities, v)
    y = build.op("Transpose", "merge/order", y, perm=[0, 2, 1, 3])
    y = build.op("Reshape", "merge", y, build.ints("merge/shape", [0, 0, heads * size]))
    build.origin = outer.product
    take_place(build.dense("proj", y, outer.weight, outer.bias), outer.result)
