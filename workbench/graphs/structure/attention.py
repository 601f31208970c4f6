"""Every attention of a graph: two products of activations around a softmax, or one operator for all of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from .masks import adds_nothing, hides_nothing, is_nan_guard
from .operators import ATTENTION_OPERATORS, INSIDE_ATTENTION, QDQ, factors, is_standard
from .values import array, input_of, lengths, only_reader, optional_input, rank, scaling
from .walk import Walker


@dataclass(frozen=True, eq=False)
class Attention:
    """softmax(scale · q kᵀ) v, whatever its nodes are called.

    Attributes:
        scores: the product q kᵀ.
        softmax: the operator. ``scores``, ``softmax`` and ``context`` are one node where one operator does it all.
        context: the product of the probabilities and v.
        query, key, value: what the products read: q as (B, H, S, h), k transposed to (B, H, h, S) for a product.
        before: the nodes from the scores to the softmax, in the order of computation.
        after: the nodes from the softmax to the context.
        probabilities: what the second product reads beside v.
    """

    scores: ir.Node
    softmax: ir.Node
    context: ir.Node
    query: ir.Value
    key: ir.Value
    value: ir.Value
    before: tuple[ir.Node, ...] = ()
    after: tuple[ir.Node, ...] = ()
    probabilities: ir.Value | None = None

    @property
    def is_operator(self) -> bool:
        """Whether one operator does it all."""
        return self.scores is self.context

    @property
    def result(self) -> ir.Value:
        """The context, (B, H, S, h)."""
        return self.context.outputs[0]

    @property
    def between(self) -> tuple[ir.Node, ...]:
        """What stands between the two products beside the softmax and Q/DQ."""
        return tuple(node for node in (*self.before, *self.after) if node.op_type not in QDQ)

    @cached_property
    def scale(self) -> float | None:
        """The constant factor of the scores; None for an operator's default, which is 1/√h."""
        if self.is_operator:
            return self.softmax.attributes.get_float("scale", None)
        return math.prod(found[1] for node in self.before if (found := scaling(node)) is not None)

    @cached_property
    def is_plain(self) -> bool:
        """Whether this is softmax(scale · q kᵀ) v and no more; a mask that hides nothing may stand in it."""
        return _is_plain_operator(self.softmax) if self.is_operator else self._is_plain_product()

    @property
    def heads(self) -> int | None:
        """H, or None where the file leaves it open."""
        shape = lengths(self.query if self.is_operator else input_of(self.softmax, 0))
        if len(shape) == 4:
            return shape[1]
        return self._heads_by_attribute if self.is_operator else None

    @property
    def head_size(self) -> int | None:
        """h, or None where the file leaves it open."""
        shape = lengths(self.query)
        if not shape or shape[-1] is None or not self.is_operator or len(shape) == 4:
            return shape[-1] if shape else None
        return shape[-1] // self.heads if self.heads else None

    @property
    def tokens(self) -> int | None:
        """S, or None where the file leaves it open."""
        if self.is_operator:
            shape = lengths(self.key)
            return shape[-2] if len(shape) > 2 else None
        shape = lengths(input_of(self.softmax, 0))
        return shape[-1] if shape else None

    @property
    def _heads_by_attribute(self) -> int | None:
        attributes = self.softmax.attributes
        return attributes.get_int("q_num_heads", 0) or attributes.get_int("num_heads", 0) or None

    def _is_plain_product(self) -> bool:
        axis, last = self.softmax.attributes.get_int("axis", -1), (rank(self.softmax.outputs[0]) or 0) - 1
        made = self.after[0].outputs[0] if self.after else self.softmax.outputs[0]
        return (
            axis in (-1, last)
            and self.scores.op_type == self.context.op_type == "MatMul"
            and all(scaling(node) is not None or adds_nothing(node) for node in self.before)
            and len(self.after) <= 1
            and all(map(is_nan_guard, self.after))
            and self.context.inputs[0] is made
            and only_reader(made) is self.context
        )


def find_attentions(model: ir.Model, walker: Walker | None = None) -> list[Attention]:
    """Every attention in the order of the graph."""
    walker = walker or Walker(model)
    found = [attention_of(node, walker) for node in model.graph]
    return [attention for attention in found if attention is not None]


def attention_of(node: ir.Node, walker: Walker) -> Attention | None:
    """The attention around a softmax, or of an attention operator; None where the node is no part of one."""
    if node.op_type in ATTENTION_OPERATORS:
        return _operator(node)
    if node.op_type != "Softmax":
        return None
    heads = next(iter(lengths(node.outputs[0])[1:]), None)

    def passes(each: ir.Node) -> bool:
        return each.op_type in INSIDE_ATTENTION or _mixes_heads(each, heads, walker)

    above = walker.up(input_of(node, 0), walker.is_product, passes)
    below = walker.down(node.outputs[0], walker.is_product, passes)
    if above is None or below is None:
        return None
    query, key = factors(above.node)[:2]
    probabilities = input_of(below.node, below.index)
    value = next((each for each in factors(below.node) if each is not probabilities), probabilities)
    return Attention(
        scores=above.node,
        softmax=node,
        context=below.node,
        query=query,
        key=key,
        value=value,
        before=above.passed,
        after=below.passed,
        probabilities=probabilities,
    )


def _mixes_heads(node: ir.Node, heads: int | None, walker: Walker) -> bool:
    """Whether a linear layer mixes the heads of scores or probabilities: talking heads (arXiv:2003.02436), CaiT."""
    if not walker.is_linear(node):
        return False
    weight = next((found for value in node.inputs if (found := array(value)) is not None and found.ndim == 2), None)
    return weight is not None and weight.shape == (heads, heads)


def _operator(node: ir.Node) -> Attention:
    """ONNX's Attention and MultiHeadAttention read q, k and v; ONNX Runtime's own Attention reads one tensor."""
    inputs = [optional_input(node, index) for index in range(3)]
    one = input_of(node, 0)
    own = is_standard(node) or node.op_type == "MultiHeadAttention"
    query, key, value = (each if own and each is not None else one for each in inputs)
    return Attention(node, node, node, query, key, value)


def _is_plain_operator(node: ir.Node) -> bool:
    """Whether ONNX's operator has q, k and v of (B, H, S, h) each, and no mask or one that hides nothing."""
    changed = any(node.attributes.get_int(name, 0) for name in ("is_causal", "qk_matmul_output_mode"))
    masks, caches = node.inputs[3:4], node.inputs[4:]
    return (
        is_standard(node)
        and not changed
        and not node.attributes.get_float("softcap", 0.0)
        and all(mask is None or hides_nothing(mask) for mask in masks)
        and not any(caches)
        and len([value for value in node.outputs if value.uses() or value.is_graph_output()]) == 1
        and all(rank(value) == 4 for value in node.inputs[:3])
    )
