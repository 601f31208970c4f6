"""Where each number of a tensor comes from: moves are evaluated on indices instead of numbers.

Exporters write the splitting of q, k and v and the merging of heads in many ways (Reshape, Transpose, Slice,
Gather, Squeeze, shape arithmetic). Evaluated on an array of indices, all of them give the same array, so that one
comparison recognises them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ..structure.evaluation import evaluate
from ..structure.operators import MOVES, SHAPE_ARITHMETIC, is_standard
from ..structure.values import (
    array,
    constant_operand,
    elements,
    input_of,
    inputs_of,
    is_dense,
    is_index,
    producer_of,
    scaling,
)

#: The batch that indices are tried with where a graph's batch is symbolic; with 1 it would look like any axis of 1.
TRIAL_BATCH = 2
#: More channels than any layer has, and few enough that a row times it stays within int64.
STRIDE = 1 << 24


class NotMoved(Exception):
    """A tensor is computed by more than moves, one linear layer and factors."""


@dataclass(frozen=True, eq=False)
class Linear:
    """A dense layer on the way: its product, its addition where it has one, and where its channels begin."""

    product: ir.Node
    weight: ir.Value
    bias: ir.Value | None
    offset: int


@dataclass(eq=False)
class Tracked:
    """A tensor's indices, and the scalar factor that was multiplied in on the way."""

    index: np.ndarray
    factor: float = 1.0
    linear: Linear | None = None


@dataclass(eq=False)
class Tracker:
    """Evaluates moves from one tensor on.

    Behind a linear layer an index is ``row * STRIDE + offset + channel``: the row counts the vectors of the source,
    and each layer that reads it has an offset of its own.

    Args:
        source: the tensor that indices count in.
        extent: its shape, with ``TRIAL_BATCH`` for a symbolic batch.
        symbols: the names of the batch's dimension where it is symbolic; they stand for ``TRIAL_BATCH``.
    """

    source: ir.Value
    extent: tuple[int, ...]
    symbols: frozenset[str]
    linears: dict[ir.Node, Linear] = field(default_factory=dict)
    known: dict[ir.Value, Tracked] = field(default_factory=dict)

    def __post_init__(self):
        self.known[self.source] = Tracked(np.arange(np.prod(self.extent), dtype=np.int64).reshape(self.extent))

    def track(self, value: ir.Value) -> Tracked:
        """Follow a tensor back to the source.

        Raises:
            NotMoved: something else than moves lies between.
        """
        if value not in self.known:
            self.known[value] = self._constant(value) or self._computed(value)
        return self.known[value]

    @staticmethod
    def _constant(value: ir.Value) -> Tracked | None:
        constant = array(value)
        return None if constant is None else Tracked(constant)

    def _computed(self, value: ir.Value) -> Tracked:
        node = value.producer()
        if node is None or not is_standard(node):
            raise NotMoved(value.name)
        if node.op_type == "Shape" and (extent := extent_of(input_of(node, 0), self.symbols)) is not None:
            return Tracked(evaluate(node, [np.empty(extent, np.int8)]))
        if (scaled := scaling(node)) is not None:
            moved = self.track(scaled[0])
            return Tracked(moved.index, moved.factor * scaled[1], moved.linear)
        if (layer := dense_layer(value)) is not None:
            return self._through(*layer)
        if node.op_type not in MOVES and not (node.op_type in SHAPE_ARITHMETIC and _is_integer(value)):
            raise NotMoved(value.name)
        inputs = [self.track(each) for each in inputs_of(node)]
        moved = evaluate(node, [each.index for each in inputs], node.outputs.index(value))
        return Tracked(moved, inputs[0].factor, inputs[0].linear)

    def _through(self, product: ir.Node, bias: ir.Value | None) -> Tracked:
        """Behind a linear layer each row keeps its number, and the channels count anew."""
        moved, weight = self.track(input_of(product, 0)), input_of(product, 1)
        if moved.linear is not None or moved.factor != 1:
            raise NotMoved(product.name)
        if product not in self.linears:
            self.linears[product] = Linear(product, weight, bias, sum(_width(x) for x in self.linears.values()))
        linear = self.linears[product]
        rows = row_numbers(moved.index)
        columns = linear.offset + np.arange(_width(linear))
        return Tracked(rows[..., None] * STRIDE + columns, 1.0, linear)


def extent_of(value: ir.Value, symbols: frozenset[str]) -> tuple[int, ...] | None:
    """A tensor's shape with the trial batch, or None where a dimension is unknown."""
    if value.shape is None:
        return None
    sizes = [d if isinstance(d, int) else TRIAL_BATCH if d.value in symbols else None for d in value.shape]
    known = tuple(size for size in sizes if size is not None)
    return known if len(known) == len(sizes) else None


def row_numbers(index: np.ndarray) -> np.ndarray:
    """Which row each last axis is, where every last axis is one whole row in its order.

    Raises:
        NotMoved: channels were mixed.
    """
    width = index.shape[-1]
    rows = index[..., 0] // width
    if not (index == rows[..., None] * width + np.arange(width)).all():
        raise NotMoved("channels")
    return rows


def dense_layer(value: ir.Value) -> tuple[ir.Node, ir.Value | None] | None:
    """The product with a constant matrix that gives a tensor, and its bias where one is added behind it."""
    node = value.producer()
    if node is None or is_dense(node):
        return None if node is None else (node, None)
    pair = constant_operand(node) if node.op_type == "Add" else None
    product = producer_of(pair[0]) if pair else None
    if pair is None or product is None or not is_dense(product):
        return None
    return (product, pair[1]) if elements(pair[1]).size == elements(product.inputs[1]).shape[1] else None


def _width(linear: Linear) -> int:
    return elements(linear.weight).shape[1]


def _is_integer(value: ir.Value) -> bool:
    """Whether a tensor may be part of the arithmetic of shapes."""
    return is_index(value) or value.dtype == ir.DataType.INT32
