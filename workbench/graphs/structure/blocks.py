"""The encoder blocks of a graph, found by structure and under any names.

An attention makes a block where a linear layer behind it is added to the stream that it was computed from. An MLP
is what is added next to that sum, or at the same time (parallel blocks, arXiv:2302.05442), and holds linear layers
and no attention. Reshapes, windows and rolls may stand between any of them, as in Swin (arXiv:2103.14030).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from .attention import Attention, attention_of
from .operators import ATTENTION_OPERATORS, BEHIND_ATTENTION, COPIES, MOVES
from .values import input_of, inputs_of, producer_of, rank, readers
from .walk import Walker, above

#: Tokens are (B, S, D); a bias has fewer axes.
TOKENS_RANK = 3


@dataclass(frozen=True, eq=False)
class Residual:
    """The addition that ends a half of a block: what is added, and the stream that it is computed from."""

    node: ir.Node
    branch: ir.Value
    stream: ir.Value

    @property
    def output(self) -> ir.Value:
        """The sum."""
        return self.node.outputs[0]


@dataclass(frozen=True, eq=False)
class Block:
    """One encoder block: attention and the projection behind it, and an MLP, which may be missing.

    Where both are computed from one stream and added to it together, ``second`` is the addition of the two, which
    ``first`` adds to the stream.
    """

    attention: Attention
    projection: ir.Node
    first: Residual
    second: Residual | None
    parallel: bool = False

    @property
    def output(self) -> ir.Value:
        """What the next block reads."""
        return self.first.output if self.parallel or self.second is None else self.second.output


def find_blocks(walker: Walker) -> list[Block]:
    """The blocks in the order of the graph."""
    found = [_block(attention_of(node, walker), walker) for node in walker.model.graph]
    return [block for block in found if block is not None]


def projection_of(attention: Attention, walker: Walker) -> ir.Node | None:
    """The linear layer that reads an attention's result, moved, scaled or normalised or not."""
    path = walker.down(attention.result, walker.is_linear, lambda node: node.op_type in BEHIND_ATTENTION)
    return path.node if path else None


def _block(attention: Attention | None, walker: Walker) -> Block | None:
    """The block around an attention, or None where no residual addition follows it."""
    projection = projection_of(attention, walker) if attention else None
    if attention is None or projection is None:
        return None
    sums = list(_sums(projection, attention, walker))
    if not sums or not walker.leads_to(sums[-1].stream, attention.scores):
        return None
    first = sums[-1]
    beside = [each for each in sums[:-1] if _holds_mlp(each.stream, first.stream, walker)]
    if beside:
        second = Residual(beside[0].node, beside[0].stream, first.stream)
        return Block(attention, projection, first, second, parallel=True)
    return Block(attention, projection, first, mlp_behind(first.output, walker))


def _sums(projection: ir.Node, attention: Attention, walker: Walker) -> Iterator[Residual]:
    """The additions of two activations that a projection leads to, up to the one to the attention's own stream.

    Its bias, and windows that are put together again, are passed on the way. ``stream`` is what is added.
    """
    moved = {projection.outputs[0]}
    for node in walker.after(projection):
        mine = [value for value in inputs_of(node) if value in moved]
        others = [value for value in inputs_of(node) if value not in moved and _is_stream(value, walker)]
        if not mine or (node.op_type not in BEHIND_ATTENTION and node.op_type != "Add"):
            continue
        if node.op_type == "Add" and others:
            candidates = (others[0], before_moves(others[0]))
            own = [each for each in candidates if walker.leads_to(each, attention.scores)]
            yield Residual(node, mine[0], own[0] if own else others[0])
            if own:
                return
        elif others:
            continue
        moved.update(node.outputs)


def _is_stream(value: ir.Value, walker: Walker) -> bool:
    """Whether a tensor may be a stream of tokens: an activation, or a learnt token that every image begins with."""
    learnt = before_moves(value)
    return walker.is_activation(value) or (learnt.is_initializer() and (rank(learnt) or 0) >= TOKENS_RANK)


def mlp_behind(stream: ir.Value, walker: Walker) -> Residual | None:
    """The addition to a stream of what linear layers, and no attention, compute from it."""
    earlier = walker.nodes_above(stream)
    for node in _readers_behind_moves(stream):
        inputs = walker.activations(node)
        branch = next((value for value in inputs if before_moves(value) is not before_moves(stream)), None)
        if node.op_type != "Add" or len(inputs) != 2 or branch is None:
            continue
        if _is_mlp(above([branch], stream, earlier), walker):
            return Residual(node, branch, stream)
    return None


def _holds_mlp(branch: ir.Value, stream: ir.Value, walker: Walker) -> bool:
    return _is_mlp(above([branch], stream, walker.nodes_above(stream)), walker)


def _is_mlp(region: list[ir.Node], walker: Walker) -> bool:
    attends = any(walker.is_product(each) or each.op_type in ATTENTION_OPERATORS for each in region)
    return any(map(walker.is_linear, region)) and not attends


def before_moves(value: ir.Value) -> ir.Value:
    """The tensor before casts, quantization, copies and moves."""
    while (node := producer_of(value)) is not None and node.op_type in (*COPIES, *MOVES):
        value = input_of(node, 0)
    return value


def _readers_behind_moves(value: ir.Value) -> list[ir.Node]:
    """The nodes that read a tensor, through casts, quantization, copies and moves."""
    found = []
    for node in readers(value):
        moves = node.op_type in (*COPIES, *MOVES)
        found += [each for out in node.outputs for each in _readers_behind_moves(out)] if moves else [node]
    return found
