"""Self-attention as an expert draws it: one product for q, k and v, one split, two products around a softmax.

    n -> MatMul, Add -> Reshape (B, S, 3H, h) -> Transpose (B, 3H, S, h) -> Split in q, k, v -> Transpose of k
      -> Mul of q, MatMul, Softmax, MatMul -> Transpose, Reshape (B, S, D) -> MatMul, Add

Splitting after one transposition, rather than before three, leaves TensorRT one kernel between the product and the
fused attention where it needs three otherwise, and lets it fuse the bias into the product. Scaling q rather than
the scores keeps the scores √h times smaller, which FP16 needs, and multiplies the smaller tensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from ..structure.attention import Core, cores, rank
from ..structure.builder import Builder, take_place
from ..structure.provenance import MOVES, STRIDE, TRIAL_BATCH, NotMoved, Tracker, is_linear, row_numbers
from ..structure.values import array

# ---- where q, k and v come from ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Projections:
    """The linear layers behind q, k and v, as one: which of their columns each head takes."""

    source: ir.Value  # (B, S, D), what all of them read
    product: ir.Node  # the first of the layers
    weight: ir.Value | np.ndarray  # (D, 3D), or the layer's own where it has this form already
    bias: ir.Value | np.ndarray | None
    heads: int
    head_size: int
    scale: float


def projections(core: Core, symbols: frozenset[str]) -> Projections:
    """Find them by tracking q, k and v back to the tensor that all of them are made of.

    Raises:
        NotMoved: something else than linear layers and moves lies between, such as a normalisation of q and k.
    """
    sources = {_source(value) for value in (core.q, core.k, core.v)}
    if len(sources) != 1 or rank(source := sources.pop()) != 3:
        raise NotMoved("source")
    extent = _extent(source)
    tracker = Tracker(source, extent, symbols)
    q, k, v = (tracker.track(value) for value in (core.q, core.k, core.v))
    if any(t.linear is None or t.index.ndim != 4 for t in (q, k, v)) or v.factor != 1:
        raise NotMoved("heads")
    indices = [q.index, k.index if core.fused else k.index.swapaxes(2, 3), v.index]
    batch, heads, tokens, size = indices[0].shape
    if extent[:2] != (batch, tokens):
        raise NotMoved("tokens")
    columns = [_columns(index, batch, tokens) for index in indices]
    weight, bias = _joined(tracker, np.concatenate([c.ravel() for c in columns]))
    scale = _scale_of(core, size) * q.factor * k.factor
    return Projections(source, q.linear.product, weight, bias, heads, size, _snapped(scale, size))


def _extent(source: ir.Value) -> tuple[int, ...]:
    """(B, S, D), the first of which may be symbolic under any name."""
    batch, *others = source.shape
    if not all(isinstance(d, int) for d in others):
        raise NotMoved("shape")
    return (batch if isinstance(batch, int) else TRIAL_BATCH, *others)


def _source(value: ir.Value) -> ir.Value:
    """The tensor behind moves, one linear layer, and moves again."""
    seen_linear = False
    while (node := value.producer()) is not None:
        if is_linear(node):
            if seen_linear:
                break
            seen_linear = True
        elif node.op_type not in _PASSED or (node.op_type == "Add" and seen_linear):
            break
        value = next((v for v in node.inputs if v is not None and array(v) is None), value)
        if value.producer() is node:
            break
    return value


_PASSED = (
    *("Reshape", "Transpose", "Split", "Squeeze", "Unsqueeze", "Slice", "Gather", "Flatten", "Identity"),
    *("Mul", "Div", "Add"),
)


def _columns(index: np.ndarray, batch: int, tokens: int) -> np.ndarray:
    """(H, h): the column of the joined layers that each channel of each head is, the same for every token."""
    columns = index[0, :, 0, :] % STRIDE
    rows = np.arange(batch * tokens).reshape(batch, 1, tokens, 1)
    if not (index == rows * STRIDE + columns[None, :, None, :]).all():
        raise NotMoved("rows")
    return columns


def _joined(tracker: Tracker, columns: np.ndarray):
    """Weight and bias of one layer whose columns stand in the order q, k, v and head by head."""
    linears = sorted(tracker.linears.values(), key=lambda linear: linear.offset)
    ordered = np.array_equal(columns, np.arange(len(columns)))
    if len(linears) == 1 and ordered and array(linears[0].weight).shape[1] == len(columns):
        return linears[0].weight, linears[0].bias
    weight = np.concatenate([array(x.weight) for x in linears], axis=1)[:, columns]
    if all(x.bias is None for x in linears):
        return weight, None
    biases = [_bias(x) for x in linears]
    return weight, np.concatenate(biases)[columns]


def _bias(linear) -> np.ndarray:
    weight = array(linear.weight)
    return np.zeros(weight.shape[1], weight.dtype) if linear.bias is None else array(linear.bias).ravel()


def _scale_of(core: Core, size: int) -> float:
    return size**-0.5 if core.scale is None else core.scale


def _snapped(scale: float, size: int) -> float:
    """1/√h itself where rounding on the way (torch scales q and k by its root each) left its neighbourhood."""
    return size**-0.5 if math.isclose(scale, size**-0.5, rel_tol=1e-6) else scale


# ---- where the context goes --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Merge:
    """The linear layer behind the context, and the tensor that stands for its result in the residual addition."""

    product: ir.Node
    weight: ir.Value | np.ndarray
    bias: ir.Value | None
    result: ir.Value


def merge(core: Core, extent: tuple[int, ...], symbols: frozenset[str]) -> Merge:
    """Follow the context through moves, one linear layer and moves to where it is added to the residual stream.

    Args:
        core: the attention.
        extent: (B, H, S, h) of the context, with the trial batch.
        symbols: the names that the batch's dimension goes under.

    Raises:
        NotMoved: something else lies between.
    """
    path = _downstream(core.context)
    places = [i for i, value in enumerate(path) if is_linear(value.producer())]
    if not places:
        raise NotMoved("projection")
    product = path[places[0]].producer()
    batch, heads, tokens, size = extent
    index = Tracker(core.context, extent, symbols).track(product.inputs[0]).index
    b, h, s, d = np.unravel_index(index, extent)
    token, channel = b * tokens + s, (h * size + d).reshape(-1, index.shape[-1])
    if index.shape[-1] != heads * size or (channel != channel[0]).any() or (token != token[..., :1]).any():
        raise NotMoved("heads")
    linear = path[places[0] :]
    bias = next((b for value in linear[1:2] if (b := _bias_of(value, product)) is not None), None)
    start, weight = linear[1 if bias is not None else 0], array(product.inputs[1])
    end = Tracker(start, (*index.shape[:-1], weight.shape[1]), symbols).track(linear[-1]).index
    if not np.array_equal(
        token[..., 0].ravel()[row_numbers(end)], np.arange(batch * tokens).reshape(batch, tokens)
    ):
        raise NotMoved("tokens")
    return Merge(product, _rows(product.inputs[1], channel[0]), bias, linear[-1])


def _downstream(value: ir.Value) -> list[ir.Value]:
    """The tensors behind a context, up to the one that something else than a move or one linear layer reads."""
    path, linears = [value], 0
    while len(uses := [use.node for use in value.uses() if use.node.op_type != "Shape"]) == 1:
        node, linears = uses[0], linears + is_linear(uses[0])
        is_bias = len(path) > 1 and _bias_of(node.outputs[0], path[-1].producer()) is not None
        if len(node.outputs) != 1 or linears > 1 or not (node.op_type in MOVES or is_linear(node) or is_bias):
            break
        value = node.outputs[0]
        path.append(value)
    return path


def _bias_of(value: ir.Value, product: ir.Node | None) -> ir.Value | None:
    """The constant vector that ``value`` adds to a linear product."""
    node = value.producer()
    if node is None or node.op_type != "Add" or product is None or not is_linear(product):
        return None
    others = [v for v in node.inputs if v is not product.outputs[0]]
    width = array(product.inputs[1]).shape[1]
    return (
        others[0] if len(others) == 1 and array(others[0]) is not None and array(others[0]).size == width else None
    )


def _rows(weight: ir.Value, order: np.ndarray) -> ir.Value | np.ndarray:
    """The weight with its rows where the merged heads stand."""
    return weight if np.array_equal(order, np.arange(len(order))) else array(weight)[np.argsort(order)]


# ---- drawing -----------------------------------------------------------------------------------------------------


def redraw(model: ir.Model) -> int:
    """Draw every attention that is one; others stay as they are.

    Returns:
        How many were drawn.
    """
    given, drawn = _batch_names(model.graph.inputs[0]), 0
    for number, core in enumerate(cores(model)):
        try:
            inner = projections(core, given)
            batch, tokens, _ = _extent(inner.source)
            symbols = given | _batch_names(inner.source)  # shape inference may have lost the name on the way
            outer = merge(core, (batch, inner.heads, tokens, inner.head_size), symbols)
        except NotMoved:
            continue
        _draw(model, core, inner, outer, f"attention.{number}")
        drawn += 1
    passes.RemoveUnusedNodesPass()(model)
    return drawn


def _batch_names(value: ir.Value) -> frozenset[str]:
    """What a tensor's first dimension is called, where it has a name."""
    name = getattr(value.shape[0], "value", None)
    return frozenset() if name is None else frozenset([name])


def _draw(model: ir.Model, core: Core, inner: Projections, outer: Merge, name: str) -> None:
    """The nodes of this module's head, in place of what was there."""
    heads, size = inner.heads, inner.head_size
    pen = Builder(model, core.softmax, name)
    pen.origin = inner.product
    qkv = pen.dense("qkv", inner.source, inner.weight, inner.bias)
    pen.origin = core.q.producer()
    y = pen.op("Reshape", "heads", qkv, pen.ints("heads/shape", [0, 0, 3 * heads, size]))
    y = pen.op("Transpose", "order", y, perm=[0, 2, 1, 3])
    q, k, v = pen.node("Split", "split", y, pen.ints("split/sizes", [heads] * 3), outputs=3, axis=1).outputs
    k = pen.op("Transpose", "k_transposed", k, perm=[0, 1, 3, 2])
    pen.origin = core.scores
    scores = pen.op("MatMul", "scores", pen.op("Mul", "scale", q, inner.scale), k)
    pen.origin = core.softmax
    probabilities = pen.op("Softmax", "softmax", scores, axis=-1)
    pen.origin = core.context.producer()
    y = pen.op("MatMul", "context", probabilities, v)
    y = pen.op("Transpose", "merge/order", y, perm=[0, 2, 1, 3])
    y = pen.op("Reshape", "merge", y, pen.ints("merge/shape", [0, 0, heads * size]))
    pen.origin = outer.product
    take_place(pen.dense("proj", y, outer.weight, outer.bias), outer.result)
