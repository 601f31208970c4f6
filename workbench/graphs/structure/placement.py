"""The place of each node in a ViT: read off its name, or found by the structure of the graph.

Attention, MLP and their residual additions are found first (``blocks``). Every other node takes the place of the
next of these that it leads to. A graph without blocks gets no places.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import onnx_ir as ir

from ...places import Place, block_name, place_of
from .. import model_file
from .attention import Attention, attention_of, find_attentions
from .blocks import Block, Residual, find_blocks, mlp_behind, projection_of
from .operators import (
    BETWEEN_PRODUCTS,
    CURVES,
    NORM_ARITHMETIC,
    NORMALIZATIONS,
    PRODUCTS,
    QDQ,
    REDUCTIONS,
    WITHOUT_ARITHMETIC,
    name_of,
)
from .shapes import complete_shapes
from .values import input_of, inputs_of, is_index, lengths, only_reader, readers, scaling
from .walk import Test, Walker, above, anything, below

POOLS = ("Gather", "Slice", "Split", "ReduceMean", "ReduceSum", "GlobalAveragePool", "ReduceMax")
#: What norms, pools and the functions behind a pool are made of: no product, convolution or softmax.
ARITHMETIC = frozenset(
    (*NORMALIZATIONS, *REDUCTIONS, *NORM_ARITHMETIC, *CURVES, *WITHOUT_ARITHMETIC, *QDQ, *POOLS, "Where", "Dropout")
)
#: Functions between the layers of an MLP that are not GELU, nor approximate it.
OTHER_CURVES = ("Relu", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu", "HardSwish", "HardSigmoid", "Mish", "Softplus")


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
    placement.embedding(blocks[0].first.stream)
    for index, block in enumerate(blocks):
        placement.block(block_name(index), block)
    for index, (block, following) in enumerate(itertools.pairwise(blocks)):
        placement.between(block_name(index), block.output, following.first.stream)
    placement.outside(blocks[-1].output)
    return placement.found


@dataclass(eq=False)
class _Placement:
    """Gives nodes their paths; ``found`` holds the paths that were given so far.

    A path is given to what was recognised: a product, convolution or softmax of no known role is never called a
    norm, because it leads to one.
    """

    walker: Walker
    found: dict[ir.Node, str] = field(default_factory=dict)

    def unplaced(self, ends: Iterable[ir.Value], start: ir.Value | None, passes: Test = anything) -> list[ir.Node]:
        """The nodes between a stream and ``ends`` that have no place yet."""
        return above(ends, start, self.found, passes)

    def fill(self, ends: Iterable[ir.Value], path: str, start: ir.Value | None, passes: Test = anything) -> None:
        """Give one path to every unplaced node between a stream and ``ends``."""
        self.found.update(dict.fromkeys(self.unplaced(ends, start, passes), path))

    def embedding(self, stream: ir.Value) -> None:
        """What leads to the first block, up to the first product of two activations: that is no embedding."""
        region = above([stream])
        unknown = {each for node in region if self.walker.is_product(node) for each in (node, *below(node))}
        self.found.update({node: "embedding" for node in region if node not in unknown})

    # ---- blocks ------------------------------------------------------------------------------------------------

    def block(self, name: str, block: Block) -> None:
        """Give a block's nodes their paths."""
        stream, first, second = block.first.stream, f"{name}/residual1", f"{name}/residual2"
        self._attention(name, block.attention, block.projection, stream, f"{name}/norm1")
        if block.parallel and block.second:
            self._mlp(name, block.second, parallel=True)
            self.found[block.second.node] = first
            self.fill([block.first.branch], first, stream, self._is_arithmetic)
            self.found[block.first.node] = second
        else:
            self.fill([block.first.branch], f"{name}/attention/proj", stream, self._is_arithmetic)
            self.found[block.first.node] = first
            if block.second:
                self._mlp(name, block.second)
                self.found[block.second.node] = second
        self._others(name, block)

    def between(self, name: str, output: ir.Value, stream: ir.Value) -> None:
        """Moves between a block and the next belong to the end of the first."""
        region = self.unplaced([stream], output)
        if all(node.op_type in WITHOUT_ARITHMETIC for node in region):
            self.found.update(dict.fromkeys(region, f"{name}/residual2"))

    def _attention(self, name: str, attention: Attention, projection: ir.Node, stream: ir.Value, norm: str) -> None:
        inside = f"{name}/attention"
        for node in self._projections(attention, stream):
            self._linear(node, norm, f"{inside}/qkv", stream)
        self._heads(inputs_of(attention.scores), inside, stream)
        self.found[attention.scores] = f"{inside}/scores"
        self.fill([input_of(attention.softmax, 0)], f"{inside}/scale", stream)
        self.found.setdefault(attention.softmax, f"{inside}/softmax")
        if attention.probabilities is not None:
            self.fill([attention.probabilities], f"{inside}/softmax", stream)
        self._heads(inputs_of(attention.context), inside, stream)
        self.found.setdefault(attention.context, f"{inside}/context")
        self._linear(projection, f"{inside}/merge", f"{inside}/proj", stream)

    def _projections(self, attention: Attention, stream: ir.Value) -> list[ir.Node]:
        """The nearest linear layers above q, k and v, in the order of the graph."""
        linears: set[ir.Node] = set()

        def passes(node: ir.Node) -> bool:
            if self.walker.is_linear(node):
                linears.add(node)
            return node.op_type not in (*PRODUCTS, "Softmax")

        self.unplaced((attention.query, attention.key, attention.value), stream, passes)
        return [node for node in self.walker.model.graph if node in linears and node not in self.found]

    def _mlp(self, name: str, mlp: Residual, parallel: bool = False) -> None:
        region = set(self.unplaced([mlp.branch], mlp.stream))
        linears = [node for node in self.walker.model.graph if node in region and self.walker.is_linear(node)]
        inner = f"{name}/mlp/{_curve(region)}"
        first = [] if parallel and len(linears) == 1 else linears[:-1] or linears  # fc1 is a part of qkv
        for node in first:
            self._linear(node, f"{name}/norm2", f"{name}/mlp/fc1", mlp.stream)
        for node in linears[len(first) :]:
            self._linear(node, inner, f"{name}/mlp/fc2", mlp.stream)
        self.fill([mlp.branch], f"{name}/mlp/fc2", mlp.stream)

    def _others(self, name: str, block: Block) -> None:
        """What else a block computes from its stream, such as a convolution in front of its projections."""
        own = {each for node in readers(block.first.stream) for each in (node, *below(node))}
        ends = [block.first.branch, *([block.second.branch] if block.second else [])]
        left = [node for node in self.unplaced(ends, block.first.stream) if node in own]
        self.found.update(dict.fromkeys(left, f"{name}/other"))

    def _heads(self, values: list[ir.Value], inside: str, stream: ir.Value) -> None:
        """Place what brings q, k and v into heads: a factor belongs to the scale, every other node to the split."""
        for node in self.unplaced(values, stream, lambda node: node.op_type not in (*PRODUCTS, "Softmax")):
            self.found[node] = f"{inside}/scale" if scaling(node) is not None else f"{inside}/split"

    def _linear(self, node: ir.Node, before: str, path: str, stream: ir.Value) -> None:
        """A linear layer with its weights and bias; what leads to it has the path ``before``."""
        norm = before.rpartition("/")[2].startswith("norm")
        self.fill(self.walker.activations(node), before, stream, self._is_arithmetic if norm else anything)
        self.fill(inputs_of(node), path, stream, lambda each: not self._depends(each))
        self.found[node] = path
        value, passed = node.outputs[0], []
        while (reader := only_reader(value)) is not None and len(self.walker.activations(reader)) == 1:
            passed.append(reader)
            if reader.op_type == "Add":
                self.found.update(dict.fromkeys(passed, path))
            if reader.op_type not in ("Reshape", "Cast", "Mul", "QuantizeLinear", "DequantizeLinear"):
                return
            value = reader.outputs[0]

    def _depends(self, node: ir.Node) -> bool:
        return any(map(self.walker.is_activation, node.outputs))

    def _is_arithmetic(self, node: ir.Node) -> bool:
        """Whether a node may be a part of a norm: it moves numbers, or computes one by one and from means.

        A sum of two activations is none, unless one is a mean: it is a residual.
        """
        if node.op_type not in ARITHMETIC:
            return False
        inputs = self.walker.activations(node)
        if node.op_type not in ("Add", "Mul") or len(set(inputs)) < 2:
            return True
        return any(lengths(value)[-1:] in ((1,), ()) for value in inputs)

    # ---- behind the blocks -------------------------------------------------------------------------------------

    def outside(self, output: ir.Value) -> None:
        """What stands behind the last block: norm, pool, pre_logits and head."""
        ends = list(self.walker.model.graph.outputs)
        for node in self.unplaced(ends, output):
            if (attention := attention_of(node, self.walker)) is not None:
                self._attention_pool(attention, output)
        unplaced = set(self.unplaced(ends, output))
        region = [node for node in self.walker.model.graph if node in unplaced]
        linears = [node for node in region if self.walker.is_linear(node)]
        pools = [node for node in region if _is_pool(node)]
        self._fill_norm([value for pool in pools for value in self.walker.activations(pool)], "norm", output)
        last = [node for node in linears if below(node).isdisjoint(linears)]
        pooled = "pool" if pools else "norm"
        for node in linears:
            if node not in last:
                self._fill_norm(self.walker.activations(node), pooled, output)
                self._linear(node, "norm", "pre_logits", output)
        for node in last:
            path = "pre_logits" if len(last) < len(linears) else pooled
            self._fill_norm(self.walker.activations(node), path, output)
            self._linear(node, "norm", "head", output)
        if linears:
            self.fill(ends, "head", output, lambda node: node.op_type not in PRODUCTS)
        self._fill_norm(ends, pooled, output)

    def _fill_norm(self, ends: Iterable[ir.Value], path: str, start: ir.Value) -> None:
        self.fill(ends, path, start, self._is_arithmetic)

    def _attention_pool(self, attention: Attention, output: ir.Value) -> None:
        """An attention that pools, with the MLP that may stand behind it (MAP heads, arXiv:2106.04560)."""
        projection = projection_of(attention, self.walker)
        if projection is None:
            return
        self._attention("pool", attention, projection, output, "norm")
        value = projection.outputs[0]
        while (reader := only_reader(value)) is not None and reader.op_type in (*BETWEEN_PRODUCTS, "Add"):
            self.found.setdefault(reader, "pool/attention/proj")
            value = reader.outputs[0]
        if (mlp := mlp_behind(value, self.walker)) is not None:
            self._mlp("pool", mlp)
            self.found[mlp.node] = "pool/residual2"


def _curve(region: Iterable[ir.Node]) -> str:
    """``gelu``, or ``activation`` for another function between the layers of an MLP.

    x sigmoid(x), which is SiLU, has no constants; GELU and its approximations by a sigmoid do.
    """
    nodes = list(region)
    kinds = {node.op_type for node in nodes}
    if kinds.intersection(("Gelu", "Erf", "Tanh", "QuickGelu", "FastGelu", "BiasGelu")):
        return "gelu"
    scaled = any(scaling(node) is not None for node in nodes)
    return "gelu" if "Sigmoid" in kinds and scaled and not kinds.intersection(OTHER_CURVES) else "activation"


def _is_pool(node: ir.Node) -> bool:
    """Whether a node takes one token or the mean of all; the means of a LayerNorm keep their axis."""
    if node.op_type not in POOLS or is_index(node.outputs[0]):
        return False
    return not (node.op_type.startswith("Reduce") and node.attributes.get_int("keepdims", 1))
