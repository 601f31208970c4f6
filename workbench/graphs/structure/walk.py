"""Walks along activations: up to the nodes that compute a tensor, down to the nodes that read it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from .operators import INTEGER_MATRIX_PRODUCTS, MATRIX_PRODUCTS, factors
from .values import inputs_of, is_index, producer_of, rank, readers

Test = Callable[[ir.Node], bool]


@dataclass(frozen=True, eq=False)
class Path:
    """A node that a walk found, and the nodes that it passed, in the order of computation.

    ``index`` says by which of its inputs the node was reached; 0 after a walk upwards.
    """

    node: ir.Node
    passed: tuple[ir.Node, ...]
    index: int = 0


@dataclass(frozen=True, eq=False)
class Walker:
    """Walks through a model and knows which of its tensors are activations.

    The nodes of the model stand in an order of computation, as ONNX asks.
    """

    model: ir.Model

    @cached_property
    def dependent(self) -> frozenset[ir.Value]:
        """The tensors whose numbers depend on the model's inputs; the output of a Shape does not."""
        found = {value for value in self.model.graph.inputs if not value.is_initializer()}
        for node in self.model.graph:
            if node.op_type not in ("Shape", "Size") and any(value in found for value in node.inputs):
                found.update(node.outputs)
        return frozenset(found)

    def is_activation(self, value: ir.Value) -> bool:
        """Whether a tensor differs from image to image; indices and conditions are none."""
        return value in self.dependent and not is_index(value)

    def activations(self, node: ir.Node) -> list[ir.Value]:
        """The inputs of a node that are activations."""
        return [value for value in inputs_of(node) if self.is_activation(value)]

    def is_linear(self, node: ir.Node) -> bool:
        """Whether a node multiplies one activation with constant weights."""
        return self._multiplied(node) == 1 and not self._multiplies_learnt_rows(node)

    def is_product(self, node: ir.Node) -> bool:
        """Whether a node multiplies two activations, or learnt rows per head, such as a query, with one."""
        return self._multiplied(node) == 2 or (self._multiplied(node) == 1 and self._multiplies_learnt_rows(node))

    def _multiplies_learnt_rows(self, node: ir.Node) -> bool:
        """Whether the constant factor has batches of its own, and stands where an activation would."""
        ranks = [0 if self.is_activation(value) else rank(value) or 0 for value in factors(node)]
        return ranks[0] >= 3 or max(ranks) >= 4

    def _multiplied(self, node: ir.Node) -> int:
        """How many activations a matrix product multiplies; 0 for another operator."""
        if node.op_type not in (*MATRIX_PRODUCTS, *INTEGER_MATRIX_PRODUCTS):
            return 0
        return sum(map(self.is_activation, factors(node)))

    @cached_property
    def _above(self) -> dict[ir.Value, frozenset[ir.Node]]:
        return {}

    def nodes_above(self, value: ir.Value) -> frozenset[ir.Node]:
        """Every node that leads to a tensor."""
        if value not in self._above:
            self._above[value] = frozenset(above([value]))
        return self._above[value]

    def leads_to(self, value: ir.Value, node: ir.Node) -> bool:
        """Whether a node reads what is computed from a tensor, or the tensor itself."""
        before = self.nodes_above(node.outputs[0])
        return any(reader in before for reader in readers(value) if reader.op_type != "Shape")

    def after(self, node: ir.Node) -> Iterator[ir.Node]:
        """The nodes behind a node in the order of the graph."""
        nodes = iter(self.model.graph)
        any(each is node for each in nodes)
        return nodes

    def upstream(self, value: ir.Value) -> Iterator[ir.Node]:
        """The nodes that a tensor was computed by, nearest first, along the activation with most dimensions."""
        while (node := value.producer()) is not None:
            yield node
            if not (inputs := self.activations(node)):
                return
            value = max(inputs, key=lambda each: rank(each) or 0)

    def up(self, value: ir.Value, wanted: Test, passes: Test) -> Path | None:
        """The first wanted node above a tensor, with only nodes that ``passes`` lets through between."""
        passed: list[ir.Node] = []
        for node in self.upstream(value):
            if wanted(node):
                return Path(node, tuple(reversed(passed)))
            if not passes(node):
                return None
            passed.append(node)
        return None

    def down(self, value: ir.Value, wanted: Test, passes: Test) -> Path | None:
        """The nearest wanted node below a tensor, with only nodes that ``passes`` lets through between."""
        waiting: list[tuple[ir.Value, tuple[ir.Node, ...]]] = [(value, ())]
        seen: set[ir.Node] = set()
        for tensor, passed in waiting:  # which grows as it is read: the nearest come first
            for use in tensor.uses():
                if wanted(use.node):
                    return Path(use.node, passed, use.idx)
                if passes(use.node) and use.node not in seen:
                    seen.add(use.node)
                    waiting += [(output, (*passed, use.node)) for output in use.node.outputs]
        return None


def anything(node: ir.Node) -> bool:
    """Lets a walk pass every node."""
    return True


def above(
    ends: Iterable[ir.Value],
    start: ir.Value | None = None,
    without: Collection[ir.Node] = (),
    passes: Test = anything,
) -> list[ir.Node]:
    """Every node that leads to ``ends``.

    What lies above ``start``, above the nodes ``without`` and above a node that does not pass is left out, and so
    are those nodes.
    """
    found: dict[ir.Node, None] = {}
    waiting = list(ends)
    while waiting:
        value = waiting.pop()
        node = producer_of(value)
        if value is start or node is None or node in without or node in found or not passes(node):
            continue
        found[node] = None
        waiting += inputs_of(node)
    return list(found)


def below(node: ir.Node) -> set[ir.Node]:
    """Every node that reads what a node computes, directly or not."""
    found: set[ir.Node] = set()
    waiting = list(node.outputs)
    while waiting:
        for reader in readers(waiting.pop()):
            if reader not in found:
                found.add(reader)
                waiting += reader.outputs
    return found
