"""The place of each node in a ViT: read off its name, or found by the structure of the graph.

Attention, MLP and their residual additions are found first (``blocks``). Every other node takes the place of the
next of these that it leads to. A graph without blocks gets no places.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import onnx_ir as ir

from ...places import Place, block_name, place_of
from .. import model_file
from .attention import Attention, find_attentions
from .blocks import Block, Residual, find_blocks
from .operators import SCALINGS, name_of
from .shapes import complete_shapes
from .values import input_of, inputs_of, is_index, only_reader
from .walk import Walker, above, below

POOLS = ("Gather", "Slice", "Split", "ReduceMean", "ReduceSum", "GlobalAveragePool", "ReduceMax")


@dataclass(frozen=True, eq=False)
class PlacedModel:
    """A model that was read, and where each of its nodes stands; constants are no nodes here."""

    path: Path
    model: ir.Model
    places: dict[ir.Node, Place | None]

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        """All nodes in the order of the file."""
        return tuple(self.places)

    @cached_property
    def walker(self) -> Walker:
        """A walker through the model."""
        return Walker(self.model)

    @cached_property
    def attentions(self) -> tuple[Attention, ...]:
        """Every attention in the order of the file."""
        return tuple(find_attentions(self.model, self.walker))

    def where(self, node: ir.Node) -> str:
        """``block03/fc2``, ``head``, or the node's own name where its place is unknown."""
        place = self.places.get(node)
        return place.name if place else name_of(node)

    def block(self, node: ir.Node) -> str | None:
        """The block that a node stands in, or None."""
        place = self.places.get(node)
        return place.block if place else None

    def block_of(self, attention: Attention) -> str | None:
        """The block that an attention stands in, or None."""
        return self.block(attention.softmax) or self.block(attention.scores)


def read(path: Path) -> PlacedModel:
    """Read an ONNX file; a node whose name says no place is placed by the graph's structure.

    Raises:
        WorkbenchError: the file is no ONNX model.
    """
    model = model_file.load(path)
    complete_shapes(model, path)
    by_name = {node: place_of(node.name or "") for node in model.graph}
    by_structure = {} if all(by_name.values()) else find_places(model)
    return PlacedModel(path, model, {node: place or by_structure.get(node) for node, place in by_name.items()})


def find_places(model: ir.Model) -> dict[ir.Node, Place]:
    """Block and role of each node that belongs to a ViT, by structure; other nodes are left out."""
    found = {node: place_of(path) for node, path in find_paths(model).items()}
    return {node: place for node, place in found.items() if place is not None}


def find_paths(model: ir.Model) -> dict[ir.Node, str]:
    """The same places as whole paths (``workbench.places``): ``block03/attention/qkv``, ``embedding``."""
    walker = Walker(model)
    blocks = find_blocks(walker)
    if not blocks:
        return {}
    placement = _Placement(walker)
    placement.fill([blocks[0].first.stream], "embedding")
    for index, block in enumerate(blocks):
        placement.block(block_name(index), block)
    placement.outside(blocks[-1].output)
    return placement.found


@dataclass(eq=False)
class _Placement:
    """Gives nodes their paths; ``found`` holds the paths that were given so far."""

    walker: Walker
    found: dict[ir.Node, str] = field(default_factory=dict)

    def unplaced(self, ends: Iterable[ir.Value], start: ir.Value | None) -> list[ir.Node]:
        """The nodes between a stream and ``ends`` that have no place yet."""
        return above(ends, start, self.found)

    def fill(self, ends: Iterable[ir.Value], path: str, start: ir.Value | None = None) -> None:
        """Give one path to every unplaced node between a stream and ``ends``."""
        self.found.update(dict.fromkeys(self.unplaced(ends, start), path))

    # ---- blocks ------------------------------------------------------------------------------------------------

    def block(self, name: str, block: Block) -> None:
        """Give a block's nodes their paths."""
        self._attention(name, block)
        self.fill([block.first.branch], f"{name}/attention/proj", block.first.stream)
        self.found[block.first.node] = f"{name}/residual1"
        if block.second:
            self._mlp(name, block.second)

    def _attention(self, name: str, block: Block) -> None:
        inside, stream, attention = f"{name}/attention", block.first.stream, block.attention
        for node in self.unplaced([block.first.branch], stream):
            if self.walker.is_linear(node) and node is not block.projection:
                self._linear(node, f"{name}/norm1", f"{inside}/qkv", stream)
        self._heads(inputs_of(attention.scores), inside, stream)
        self.found[attention.scores] = f"{inside}/scores"
        self.fill([input_of(attention.softmax, 0)], f"{inside}/scale", stream)
        self.found.setdefault(attention.softmax, f"{inside}/softmax")
        if attention.probabilities is not None:
            self.fill([attention.probabilities], f"{inside}/softmax", stream)
        self._heads(inputs_of(attention.context), inside, stream)
        self.found.setdefault(attention.context, f"{inside}/context")
        self._linear(block.projection, f"{inside}/merge", f"{inside}/proj", stream)

    def _mlp(self, name: str, mlp: Residual) -> None:
        region = set(self.unplaced([mlp.branch], mlp.stream))
        linears = [node for node in self.walker.model.graph if node in region and self.walker.is_linear(node)]
        for node in linears[:-1] or linears:
            self._linear(node, f"{name}/norm2", f"{name}/mlp/fc1", mlp.stream)
        if len(linears) > 1:
            self._linear(linears[-1], f"{name}/mlp/gelu", f"{name}/mlp/fc2", mlp.stream)
        self.fill([mlp.branch], f"{name}/mlp/fc2", mlp.stream)
        self.found[mlp.node] = f"{name}/residual2"

    def _heads(self, values: list[ir.Value], inside: str, stream: ir.Value) -> None:
        """Place what brings q, k and v into heads: a factor belongs to the scale, every other node to the split."""
        for node in self.unplaced(values, stream):
            scales = node.op_type in SCALINGS and not is_index(node.outputs[0])
            self.found[node] = f"{inside}/scale" if scales else f"{inside}/split"

    def _linear(self, node: ir.Node, before: str, path: str, stream: ir.Value) -> None:
        """A linear layer with its weights and bias; what leads to it has the path ``before``."""
        self.fill(self.walker.activations(node), before, stream)
        self.fill(inputs_of(node), path, stream)
        self.found[node] = path
        value, passed = node.outputs[0], []
        while (reader := only_reader(value)) is not None and len(self.walker.activations(reader)) == 1:
            passed.append(reader)
            if reader.op_type == "Add":
                self.found.update(dict.fromkeys(passed, path))
            if reader.op_type not in ("Reshape", "Cast", "Mul", "QuantizeLinear", "DequantizeLinear"):
                return
            value = reader.outputs[0]

    # ---- behind the blocks -------------------------------------------------------------------------------------

    def outside(self, output: ir.Value) -> None:
        """What stands behind the last block: norm, pool, pre_logits and head."""
        ends = list(self.walker.model.graph.outputs)
        unplaced = set(self.unplaced(ends, output))
        region = [node for node in self.walker.model.graph if node in unplaced]
        linears = [node for node in region if self.walker.is_linear(node)]
        pools = [node for node in region if _is_pool(node)]
        self.fill([value for pool in pools for value in self.walker.activations(pool)], "norm", output)
        last = [node for node in linears if below(node).isdisjoint(linears)]
        pooled = "pool" if pools else "norm"
        for node in linears:
            if node not in last:
                self._linear(node, pooled, "pre_logits", output)
        for node in last:
            self._linear(node, "pre_logits" if len(last) < len(linears) else pooled, "head", output)
        self.fill(ends, "head" if linears else pooled, output)


def _is_pool(node: ir.Node) -> bool:
    """Whether a node takes one token or the mean of all; the means of a LayerNorm keep their axis."""
    if node.op_type not in POOLS or is_index(node.outputs[0]):
        return False
    return not (node.op_type.startswith("Reduce") and node.attributes.get_int("keepdims", 1))
