"""Where each number of a tensor comes from: moves are evaluated on indices instead of numbers.

Exporters write the splitting of q, k and v and the merging of heads in many ways (Reshape, Transpose, Slice,
Gather, Squeeze, shape arithmetic). Evaluated on an array of indices, all of them give the same array, so that one
comparison recognises them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from .values import array

#: The batch that indices are tried with where a graph's batch is symbolic; 2 tells it from an axis of length 1.
TRIAL_BATCH = 2
#: More channels than any layer has, and few enough that a row times it stays within int64.
STRIDE = 1 << 24
SHAPES = (
    "Shape",
    "Size",
    "Constant",
    "ConstantOfShape",
    "Cast",
    "Concat",
    "Equal",
    "Where",
    "Div",
    "Mul",
    "Add",
    "Sub",
)
MOVES = (
    "Reshape",
    "Transpose",
    "Split",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "Gather",
    "Flatten",
    "Identity",
    "Expand",
)


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
    and the offset tells apart the layers that read it.

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
        elements = array(value)
        return None if elements is None else Tracked(elements)

    def _computed(self, value: ir.Value) -> Tracked:
        node = value.producer()
        if node is None or node.domain not in ("", "ai.onnx"):
            raise NotMoved(value.name)
        if node.op_type == "Shape" and (extent := extent_of(node.inputs[0], self.symbols)) is not None:
            return self._evaluate(value, node, [np.empty(extent, np.int8)], Tracked(np.empty(0)))
        if factor := _factor(node):
            moved = self.track(factor[0])
            return Tracked(moved.index, moved.factor * factor[1], moved.linear)
        if (linear := _linear(node)) is not None:
            return self._through(*linear)
        if node.op_type not in MOVES and not (node.op_type in SHAPES and _is_integer(value)):
            raise NotMoved(value.name)
        inputs = [self.track(v) for v in node.inputs if v is not None]
        return self._evaluate(value, node, [t.index for t in inputs], inputs[0])

    def _evaluate(self, value, node, inputs, like: Tracked) -> Tracked:
        proto = ir.serde.serialize_node(node)
        names = [name for name in proto.input if name]
        opset = onnx.helper.make_opsetid("", node.graph.opset_imports[""])
        graph = onnx.helper.make_graph(
            [proto],
            "one",
            [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in dict.fromkeys(names)],
            [onnx.helper.make_value_info(value.name, onnx.TypeProto())],
        )
        model = onnx.helper.make_model(graph, opset_imports=[opset])
        index = ReferenceEvaluator(model).run([value.name], dict(zip(names, inputs)))[0]
        return Tracked(np.asarray(index), like.factor, like.linear)

    def _through(self, product: ir.Node, bias: ir.Value | None) -> Tracked:
        """Behind a linear layer each row keeps its number, and the channels count anew."""
        moved, weight = self.track(product.inputs[0]), product.inputs[1]
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
    return None if None in sizes else tuple(sizes)


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


def _width(linear: Linear) -> int:
    return array(linear.weight).shape[1]


def _is_integer(value: ir.Value) -> bool:
    return value.dtype in (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)


def _factor(node: ir.Node) -> tuple[ir.Value, float] | None:
    """The other operand and the number where a node multiplies or divides by one constant number."""
    if node.op_type not in ("Mul", "Div") or _is_integer(node.outputs[0]):
        return None
    for index, other in ((1, 0), (0, 1)):
        number = array(node.inputs[index])
        if number is not None and number.size == 1 and (node.op_type == "Mul" or index == 1):
            value = float(number.item())
            return node.inputs[other], value if node.op_type == "Mul" else 1 / value
    return None


def _linear(node: ir.Node) -> tuple[ir.Node, ir.Value | None] | None:
    """A product with a constant matrix, or one with a constant bias added."""
    if is_linear(node):
        return node, None
    if node.op_type != "Add":
        return None
    for index, other in ((1, 0), (0, 1)):
        product, bias = node.inputs[other].producer(), array(node.inputs[index])
        if bias is not None and product is not None and is_linear(product):
            return (product, node.inputs[index]) if bias.size == array(product.inputs[1]).shape[1] else None
    return None


def is_linear(node: ir.Node) -> bool:
    """Whether a node multiplies an activation with a constant matrix."""
    weight = array(node.inputs[1]) if node.op_type == "MatMul" else None
    return weight is not None and weight.ndim == 2 and array(node.inputs[0]) is None
