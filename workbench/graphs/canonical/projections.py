"""The linear layers around an attention: those that make q, k and v, and the one that reads the context.

They are found by tracking indices (``index_tracking``), so that it does not matter how an exporter splits and
merges the heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..structure.attention import Attention
from ..structure.operators import MOVES, SCALINGS
from ..structure.values import (
    array,
    elements,
    input_of,
    inputs_of,
    is_dense,
    known_lengths,
    only_reader,
    producer_of,
    rank,
)
from .index_tracking import STRIDE, TRIAL_BATCH, Linear, NotMoved, Tracker, dense_layer, row_numbers

# ---- in front of an attention ------------------------------------------------------------------------------------


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


def find_projections(attention: Attention, symbols: frozenset[str]) -> Projections:
    """Track q, k and v back to the tensor that all of them are made of.

    Raises:
        NotMoved: something else than linear layers and moves lies between, such as a normalisation of q and k.
    """
    sources = {_source(value) for value in (attention.query, attention.key, attention.value)}
    source = sources.pop()
    if sources or rank(source) != 3:
        raise NotMoved("source")
    extent = trial_extent(source)
    tracker = Tracker(source, extent, symbols)
    q, k, v = (tracker.track(value) for value in (attention.query, attention.key, attention.value))
    first = q.linear
    if first is None or any(t.linear is None or t.index.ndim != 4 for t in (q, k, v)) or v.factor != 1:
        raise NotMoved("heads")
    indices = [q.index, k.index if attention.is_operator else k.index.swapaxes(2, 3), v.index]
    batch, heads, tokens, size = indices[0].shape
    if extent[:2] != (batch, tokens):
        raise NotMoved("tokens")
    columns = [_columns(index, batch, tokens) for index in indices]
    weight, bias = _joined(tracker, np.concatenate([c.ravel() for c in columns]))
    scale = size**-0.5 if attention.scale is None else attention.scale
    scale = _exact_root(scale * q.factor * k.factor, size)
    return Projections(source, first.product, weight, bias, heads, size, scale)


def trial_extent(source: ir.Value) -> tuple[int, int, int]:
    """(B, S, D) with the trial batch, where the first may be symbolic under any name.

    Raises:
        NotMoved: another length is unknown.
    """
    others = known_lengths(source, 1)
    if source.shape is None or others is None:
        raise NotMoved("shape")
    batch, (tokens, width) = source.shape[0], others
    return batch if isinstance(batch, int) else TRIAL_BATCH, tokens, width


def _source(value: ir.Value) -> ir.Value:
    """The tensor behind moves, one linear layer, and moves again."""
    seen_linear = False
    while (node := value.producer()) is not None:
        if is_dense(node):
            if seen_linear:
                break
            seen_linear = True
        elif node.op_type not in (*MOVES, *SCALINGS, "Add") or (node.op_type == "Add" and seen_linear):
            break
        before = next((each for each in inputs_of(node) if array(each) is None), None)
        if before is None:
            break
        value = before
    return value


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
    if len(linears) == 1 and ordered and elements(linears[0].weight).shape[1] == len(columns):
        return linears[0].weight, linears[0].bias
    weight = np.concatenate([elements(x.weight) for x in linears], axis=1)[:, columns]
    if all(x.bias is None for x in linears):
        return weight, None
    return weight, np.concatenate([_bias(x) for x in linears])[columns]


def _bias(linear: Linear) -> np.ndarray:
    """A layer's bias, or zeros."""
    weight = elements(linear.weight)
    return np.zeros(weight.shape[1], weight.dtype) if linear.bias is None else elements(linear.bias).ravel()


def _exact_root(scale: float, size: int) -> float:
    """1/√h itself where the scale is a rounding away from it: torch scales q and k by its root each."""
    return size**-0.5 if math.isclose(scale, size**-0.5, rel_tol=1e-6) else scale


# ---- behind an attention -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Merge:
    """The linear layer behind the context, and the tensor that stands for its result in the residual addition."""

    product: ir.Node
    weight: ir.Value | np.ndarray
    bias: ir.Value | None
    result: ir.Value


def find_merge(attention: Attention, extent: tuple[int, int, int, int], symbols: frozenset[str]) -> Merge:
    """Follow the context through moves, one linear layer and moves to where it is added to the residual stream.

    Args:
        attention: whose context it is.
        extent: (B, H, S, h) of the context, with the trial batch.
        symbols: the names that the batch's dimension goes under.

    Raises:
        NotMoved: something else lies between.
    """
    path = _downstream(attention.result)
    first = next((i for i, value in enumerate(path) if is_dense(producer_of(value))), None)
    product = producer_of(path[first]) if first is not None else None
    if first is None or product is None:
        raise NotMoved("projection")
    index = Tracker(attention.result, extent, symbols).track(input_of(product, 0)).index
    token, channel = _tokens_and_channels(index, extent)
    linear, weight = path[first:], input_of(product, 1)
    bias = _bias_of(linear[1], product) if len(linear) > 1 else None
    start = linear[0 if bias is None else 1]
    moved = (*index.shape[:-1], elements(weight).shape[1])
    end = Tracker(start, moved, symbols).track(linear[-1]).index
    batch, _, tokens, _ = extent
    if not np.array_equal(token.ravel()[row_numbers(end)], np.arange(batch * tokens).reshape(batch, tokens)):
        raise NotMoved("tokens")
    return Merge(product, _sorted_rows(weight, channel), bias, linear[-1])


def _tokens_and_channels(index: np.ndarray, extent: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The token that each row of the merged heads is of, and the channel (head by head) of each of its columns."""
    _, heads, tokens, size = extent
    b, h, s, d = np.unravel_index(index, extent)
    token, channel = b * tokens + s, (h * size + d).reshape(-1, index.shape[-1])
    if index.shape[-1] != heads * size or (channel != channel[0]).any() or (token != token[..., :1]).any():
        raise NotMoved("heads")
    return token[..., 0], channel[0]


def _downstream(value: ir.Value) -> list[ir.Value]:
    """The tensors behind a context, up to the one that something else than a move or one linear layer reads."""
    path, linears = [value], 0
    while (node := only_reader(value)) is not None:
        linears += is_dense(node)
        adds_bias = _bias_of(node.outputs[0], producer_of(path[-1])) is not None
        if len(node.outputs) != 1 or linears > 1 or not (node.op_type in MOVES or is_dense(node) or adds_bias):
            break
        value = node.outputs[0]
        path.append(value)
    return path


def _bias_of(value: ir.Value, product: ir.Node | None) -> ir.Value | None:
    """The constant vector that ``value`` adds to a linear product."""
    layer = dense_layer(value)
    return layer[1] if layer is not None and layer[0] is product else None


def _sorted_rows(weight: ir.Value, order: np.ndarray) -> ir.Value | np.ndarray:
    """The weight with its rows where the merged heads stand."""
    return weight if np.array_equal(order, np.arange(len(order))) else elements(weight)[np.argsort(order)]
