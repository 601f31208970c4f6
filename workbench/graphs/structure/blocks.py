"""The encoder blocks of a graph, found by structure and under any names.

An attention makes a block where a linear layer behind it is added to the stream that it was computed from. An MLP
is what is added next to that sum and holds linear layers and no attention.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from .attention import Attention, attention_of
from .operators import ATTENTION_OPERATORS, BETWEEN_PRODUCTS, COPIES
from .values import input_of, only_reader, producer_of, readers
from .walk import Walker, above


@dataclass(frozen=True, eq=False)
class Residual:
    """The addition that ends a half of a block: what is added, and the stream that it is added to."""

    node: ir.Node
    branch: ir.Value
    stream: ir.Value

    @property
    def output(self) -> ir.Value:
        """The sum."""
        return self.node.outputs[0]


@dataclass(frozen=True, eq=False)
class Block:
    """One encoder block: attention and the projection behind it, then an MLP, which may be missing."""

    attention: Attention
    projection: ir.Node
    first: Residual
    second: Residual | None

    @property
    def output(self) -> ir.Value:
        """What the next block reads."""
        return (self.second or self.first).output


def find_blocks(walker: Walker) -> list[Block]:
    """The blocks in the order of the graph."""
    found = [_block(attention_of(node, walker), walker) for node in walker.model.graph]
    return [block for block in found if block is not None]


def _block(attention: Attention | None, walker: Walker) -> Block | None:
    """The block around an attention, or None where no residual addition follows it."""
    if attention is None:
        return None
    projection = walker.down(attention.result, walker.is_linear, BETWEEN_PRODUCTS)
    first = _residual(projection.node.outputs[0], walker) if projection else None
    if projection is None or first is None:
        return None
    return Block(attention, projection.node, first, _mlp(first.output, walker))


def _residual(value: ir.Value, walker: Walker) -> Residual | None:
    """The addition of two activations that a linear layer's result leads to, its bias passed on the way."""
    while (node := only_reader(value)) is not None:
        inputs = walker.activations(node)
        if node.op_type == "Add" and len(inputs) == 2:
            return Residual(node, value, next(each for each in inputs if each is not value))
        if node.op_type not in (*BETWEEN_PRODUCTS, "Add"):
            return None
        value = node.outputs[0]
    return None


def _mlp(stream: ir.Value, walker: Walker) -> Residual | None:
    """The addition to a stream of what linear layers, and no attention, compute from it."""
    earlier = above([stream])
    for node in _readers_behind_copies(stream):
        inputs = walker.activations(node)
        branch = next((value for value in inputs if _without_copies(value) is not stream), None)
        if node.op_type != "Add" or len(inputs) != 2 or branch is None:
            continue
        region = above([branch], stream, set(earlier))
        attends = any(walker.is_product(each) or each.op_type in ATTENTION_OPERATORS for each in region)
        if any(map(walker.is_linear, region)) and not attends:
            return Residual(node, branch, stream)
    return None


def _without_copies(value: ir.Value) -> ir.Value:
    """The tensor before casts, quantization and copies."""
    while (node := producer_of(value)) is not None and node.op_type in COPIES:
        value = input_of(node, 0)
    return value


def _readers_behind_copies(value: ir.Value) -> list[ir.Node]:
    """The nodes that read a tensor, through casts, quantization and copies."""
    found = []
    for node in readers(value):
        found += _readers_behind_copies(node.outputs[0]) if node.op_type in COPIES else [node]
    return found
