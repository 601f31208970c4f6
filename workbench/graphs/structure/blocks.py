"""Blocks and roles found by structure, in any ViT's graph and under any names.

An attention is two products of activations around a softmax; it makes a block where a linear layer behind it is
added to the stream that it was computed from. An MLP is what is added next to that sum and holds linear layers. All
other nodes take the place of the next of these that they lead to. A graph without such blocks gets no places.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from ...places import Place, block_name, place_of

PRODUCTS = ("MatMul", "Gemm", "Einsum", "MatMulInteger", "QLinearMatMul")
ATTENTIONS = ("Attention", "MultiHeadAttention")
#: What may stand between an anchor and the next: it changes the type, the order or the size of numbers, no more.
PASSING = (
    *(
        "Cast",
        "QuantizeLinear",
        "DequantizeLinear",
        "Identity",
        "Dropout",
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
    ),
    *("Flatten", "Mul", "Div", "Where", "DynamicQuantizeLinear", "Slice", "Gather", "Split"),
)
POOLS = ("Gather", "Slice", "Split", "ReduceMean", "ReduceSum", "GlobalAveragePool", "ReduceMax")


@dataclass(frozen=True, eq=False)
class Attention:
    """The anchors of one block's first half, and the addition that ends it."""

    scores: ir.Node
    softmax: ir.Node
    context: ir.Node
    proj: ir.Node
    residual: ir.Node
    branch: ir.Value  # what is added
    stream: ir.Value  # what it is added to


@dataclass(frozen=True, eq=False)
class Mlp:
    """The addition that ends a block's second half."""

    residual: ir.Node
    branch: ir.Value


def roles(model: ir.Model) -> dict[ir.Node, Place]:
    """Block and role of each node that belongs to a ViT; other nodes are left out."""
    return {node: place_of(place) for node, place in places(model).items()}


def places(model: ir.Model) -> dict[ir.Node, str]:
    """The place of each node in the words of ``workbench.places``: ``block03/attention/qkv``, ``embedding``."""
    finder = _Finder(model)
    blocks = [a for node in model.graph if (a := finder.attention(node)) is not None]
    if not blocks:
        return {}
    finder.sweep([blocks[0].stream], "embedding")
    for index, attention in enumerate(blocks):
        output = finder.block(block_name(index), attention)
    finder.outside(output)
    return finder.found


@dataclass(eq=False)
class _Finder:
    model: ir.Model
    found: dict[ir.Node, str] = field(default_factory=dict)
    constant: dict[ir.Value, bool] = field(default_factory=dict)

    # ---- what a node is ----------------------------------------------------------------------------------------

    def is_constant(self, value: ir.Value | None) -> bool:
        """Whether a tensor is the same for every image: an initializer, or computed from nothing else."""
        if value is None or value.const_value is not None or value.is_initializer():
            return True
        if value not in self.constant:
            node = value.producer()
            self.constant[value] = node is not None and all(self.is_constant(v) for v in node.inputs)
        return self.constant[value]

    def computed(self, node: ir.Node) -> list[ir.Value]:
        """The inputs that depend on the images, numbers that only say a shape left out."""
        return [v for v in node.inputs if not self.is_constant(v) and not _is_shape(v)]

    def is_linear(self, node: ir.Node | None) -> bool:
        """Whether a node multiplies one activation with constant weights."""
        return node is not None and node.op_type in PRODUCTS and len(self.computed(node)) == 1

    def is_product(self, node: ir.Node | None) -> bool:
        """Whether a node multiplies two activations."""
        return node is not None and node.op_type in PRODUCTS and len(self.computed(node)) == 2

    # ---- anchors -----------------------------------------------------------------------------------------------

    def attention(self, node: ir.Node) -> Attention | None:
        """The attention around a softmax, or around one fused operator, where it is part of a block."""
        if node.op_type in ATTENTIONS:
            scores = context = node
        elif node.op_type == "Softmax":
            scores, context = self._up(node.inputs[0]), self._down(node.outputs[0], self.is_product)
        else:
            return None
        if scores is None or context is None:
            return None
        proj = self._down(context.outputs[0], self.is_linear)
        if proj is None:
            return None
        residual, branch = self._addition(proj.outputs[0])
        if residual is None:
            return None
        stream = next(v for v in self.computed(residual) if v is not branch)
        return Attention(scores, node, context, proj, residual, branch, stream)

    def _up(self, value: ir.Value) -> ir.Node | None:
        """The product of two activations that a softmax reads, perhaps scaled, masked or cast on the way."""
        while (node := value.producer()) is not None:
            if self.is_product(node):
                return node
            inputs = self.computed(node)
            if node.op_type not in (*PASSING, "Add", "Sub") or not inputs:
                return None
            value = inputs[0]
        return None

    def _down(self, value: ir.Value, wanted) -> ir.Node | None:
        """The first wanted node behind a tensor, with nothing but passing nodes between."""
        waiting, seen = [value], set()
        while waiting:
            for use in waiting.pop(0).uses():
                if wanted(use.node):
                    return use.node
                if use.node.op_type in PASSING and use.node not in seen and not self.is_product(use.node):
                    seen.add(use.node)
                    waiting += use.node.outputs
        return None

    def _addition(self, value: ir.Value) -> tuple[ir.Node | None, ir.Value | None]:
        """The addition of two activations that a linear layer's result leads to, and by which operand."""
        for _ in range(16):
            uses = [use.node for use in value.uses() if use.node.op_type != "Shape"]
            if len(uses) != 1:
                return None, None
            node = uses[0]
            if node.op_type == "Add" and len(self.computed(node)) == 2:
                return node, value
            if node.op_type not in (*PASSING, "Add"):
                return None, None
            value = node.outputs[0]
        return None, None

    def mlp(self, stream: ir.Value) -> Mlp | None:
        """What is computed from a stream through linear layers alone, and added to it."""
        for use in _uses(stream):
            if use.op_type != "Add" or len(self.computed(use)) != 2:
                continue
            branch = next((v for v in self.computed(use) if _behind(v) is not stream), None)
            region = self._between([branch], stream)
            if any(map(self.is_linear, region)) and not any(map(self.is_product, region)):
                return Mlp(use, branch)
        return None

    def _between(self, ends: Iterable[ir.Value], stream: ir.Value | None) -> list[ir.Node]:
        """Every node that leads to ``ends`` and has no place yet, the stream and what lies before it left out."""
        nodes, waiting = {}, [v for v in ends if v is not None]
        while waiting:
            value = waiting.pop()
            node = value.producer()
            if value is stream or node is None or node in self.found or node in nodes:
                continue
            nodes[node] = None
            waiting += [v for v in node.inputs if v is not None]
        return list(nodes)

    # ---- places ------------------------------------------------------------------------------------------------

    def sweep(self, ends: Iterable[ir.Value], place: str, stream: ir.Value | None = None) -> None:
        """Give a place to every node that leads to ``ends`` and has none."""
        for node in self._between(ends, stream):
            self.found[node] = place

    def block(self, name: str, parts: Attention) -> ir.Value:
        """Give a block's nodes their places.

        Returns:
            The block's output.
        """
        inside, stream = f"{name}/attention", parts.stream
        region = self._between([parts.branch], stream)
        for linear in [node for node in region if self.is_linear(node) and node is not parts.proj]:
            self._linear(linear, f"{name}/norm1", f"{inside}/qkv", stream)
        self._heads([*parts.scores.inputs], inside, stream)
        self.found[parts.scores] = f"{inside}/scores"
        self.sweep(parts.softmax.inputs[:1], f"{inside}/scale", stream)
        self.found.setdefault(parts.softmax, f"{inside}/softmax")
        self.sweep(self.computed(parts.context)[:1], f"{inside}/softmax", stream)
        self._heads([*parts.context.inputs], inside, stream)
        self.found.setdefault(parts.context, f"{inside}/context")
        self._linear(parts.proj, f"{inside}/merge", f"{inside}/proj", stream)
        self.sweep([parts.branch], f"{inside}/proj", stream)
        self.found[parts.residual] = f"{name}/residual1"
        output = parts.residual.outputs[0]
        return self._second_half(name, output, mlp) if (mlp := self.mlp(output)) else output

    def _second_half(self, name: str, stream: ir.Value, mlp: Mlp) -> ir.Value:
        region = self._between([mlp.branch], stream)
        linears = [node for node in self.model.graph if node in set(region) and self.is_linear(node)]
        for linear in linears[:-1] or linears:
            self._linear(linear, f"{name}/norm2", f"{name}/mlp/fc1", stream)
        if len(linears) > 1:
            self._linear(linears[-1], f"{name}/mlp/gelu", f"{name}/mlp/fc2", stream)
        self.sweep([mlp.branch], f"{name}/mlp/fc2", stream)
        self.found[mlp.residual] = f"{name}/residual2"
        return mlp.residual.outputs[0]

    def _heads(self, values: list[ir.Value], inside: str, stream: ir.Value) -> None:
        """What brings q, k and v into heads is their split; a factor on the way belongs to the scale."""
        for node in self._between(values, stream):
            scaling = node.op_type in ("Mul", "Div") and not _is_shape(node.outputs[0])
            self.found[node] = f"{inside}/scale" if scaling else f"{inside}/split"

    def _linear(self, node: ir.Node, before: str, place: str, stream: ir.Value | None) -> None:
        """A linear layer with its weights and bias; what leads to it stands at the place ``before``."""
        self.sweep(self.computed(node), before, stream)
        self.sweep(node.inputs, place, stream)
        self.found[node] = place
        value, path = node.outputs[0], []
        while len(uses := value.uses()) == 1 and len(self.computed(uses[0].node)) == 1:
            path.append(uses[0].node)
            if uses[0].node.op_type == "Add":
                self.found.update(dict.fromkeys(path, place))
            if uses[0].node.op_type not in ("Reshape", "Cast", "Mul", "QuantizeLinear", "DequantizeLinear"):
                break
            value = path[-1].outputs[0]

    def outside(self, output: ir.Value) -> None:
        """What stands behind the last block: norm, pool, pre_logits and head."""
        ends = list(self.model.graph.outputs)
        order = {node: i for i, node in enumerate(self.model.graph)}
        region = sorted(self._between(ends, output), key=order.__getitem__)
        linears = [node for node in region if self.is_linear(node)]
        pools = [node for node in region if self._is_pool(node)]
        self.sweep([v for pool in pools for v in self.computed(pool)], "norm", output)
        last = [n for n in linears if not any(m in linears for m in self._after(n))]
        for linear in [n for n in linears if n not in last]:
            self._linear(linear, "pool" if pools else "norm", "pre_logits", output)
        for linear in last:
            previous = "pre_logits" if len(last) < len(linears) else "pool" if pools else "norm"
            self._linear(linear, previous, "head", output)
        self.sweep(ends, "head" if linears else "pool" if pools else "norm", output)

    @staticmethod
    def _is_pool(node: ir.Node) -> bool:
        """Whether a node leaves fewer axes than it reads, or none of the tokens' axis; LayerNorm's means do not."""
        if node.op_type not in POOLS or _is_shape(node.outputs[0]):
            return False
        if not node.op_type.startswith("Reduce"):
            return True
        return not node.attributes.get_int("keepdims", 1)

    def _after(self, node: ir.Node) -> set[ir.Node]:
        seen, waiting = set(), list(node.outputs)
        while waiting:
            for use in waiting.pop().uses():
                if use.node not in seen:
                    seen.add(use.node)
                    waiting += use.node.outputs
        return seen


def _is_shape(value: ir.Value) -> bool:
    """Whether a tensor holds shapes or indices rather than activations; 8-bit integers are activations."""
    return value.dtype in (ir.DataType.INT64, ir.DataType.BOOL)


def _behind(value: ir.Value) -> ir.Value:
    """The tensor before casts, quantization and copies."""
    while (node := value.producer()) is not None and node.op_type in (
        "Cast",
        "Identity",
        "QuantizeLinear",
        "DequantizeLinear",
    ):
        value = node.inputs[0]
    return value


def _uses(value: ir.Value) -> list[ir.Node]:
    """The nodes that read a tensor, through casts, quantization and copies."""
    nodes = []
    for use in value.uses():
        if use.node.op_type in ("Cast", "Identity", "QuantizeLinear", "DequantizeLinear"):
            nodes += _uses(use.node.outputs[0])
        else:
            nodes.append(use.node)
    return nodes
