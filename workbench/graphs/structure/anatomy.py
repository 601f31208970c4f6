"""What stands where in any ONNX graph: the place of each node, what it computes, and every attention."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx_ir as ir

from ...dtypes import of_onnx
from ...places import Place, place_of
from .. import model_file
from .blocks import roles
from .shapes import complete_shapes, lengths, per_image
from .values import array

PRODUCTS = ("MatMul", "Gemm", "Conv", "Einsum", "MatMulInteger", "ConvInteger", "QLinearMatMul", "Attention")
#: Operators that hold products of their own.
CLOSED = ("LSTM", "GRU", "RNN", "If", "Loop", "Scan", "ConvTranspose", "DeformConv")
QUANTIZERS = ("QuantizeLinear", "DynamicQuantizeLinear")
#: What stands between a tensor and its Q/DQ without changing a number, or between a product and the softmax.
CARRIERS = ("Cast", "Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Split", "Gather")
#: What an attention may do between its two products beside the softmax.
ADJUSTMENTS = ("Mul", "Div", "Add", "Sub", "Where", "Max", "Clip", "Tanh", "Dropout", *CARRIERS)
#: Keys under which exporters leave the line of code that a node comes from, most exact first.
STAMPS = ("workbench.source", "pkg.jax2onnx.jax_traceback", "pkg.jax2onnx.callsite", "pkg.torch.onnx.stack_trace")


@dataclass(frozen=True, eq=False)
class Attention:
    """softmax(q kᵀ) v, whatever its nodes are called.

    Attributes:
        block: the block that it stands in, or None.
        scores: the product q kᵀ.
        softmax: the operator.
        context: the product of the probabilities and v.
        between: the other nodes from product to product.
        heads, head_size, tokens: its shape; None where the file leaves it open.
        high: the type around it; ``low``: the type of its Q/DQ or None; ``sites``: which tensors carry Q/DQ.
    """

    block: str | None
    scores: ir.Node
    softmax: ir.Node
    context: ir.Node
    between: tuple[ir.Node, ...]
    heads: int | None
    head_size: int | None
    tokens: int | None
    high: str
    low: str | None
    sites: frozenset[str]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A model that was read, and where each of its nodes stands; constants are no nodes here."""

    path: Path
    model: ir.Model
    places: dict[ir.Node, Place | None]

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        """All nodes in the order of the file."""
        return tuple(self.places)

    def where(self, node: ir.Node) -> str:
        """``block03/fc2``, ``head``, or the node's own name where its place is unknown."""
        place = self.places.get(node)
        if place is None:
            return name_of(node)
        return f"{place.block}/{place.role}" if place.block else place.role

    def block(self, node: ir.Node) -> str | None:
        """The block that a node stands in, or None."""
        place = self.places.get(node)
        return place.block if place else None

    @cached_property
    def attentions(self) -> tuple[Attention, ...]:
        """Every attention, in the order of the file: written out in nodes, or one Attention operator."""
        find = {"Softmax": self._attention, "Attention": self._operator}
        found = (find[n.op_type](n) for n in self.nodes if n.op_type in find and n.domain in ("", "ai.onnx"))
        return tuple(one for one in found if one is not None)

    @cached_property
    def product_types(self) -> frozenset[str]:
        """The types in which any matrix product computes."""
        return frozenset(filter(None, (type_of(node) for node in self.nodes if node.op_type in PRODUCTS)))

    def _attention(self, softmax: ir.Node) -> Attention | None:
        above, before = _climb(softmax.inputs[0])
        below, after = _descend(softmax.outputs[0])
        if above is None or below is None:
            return None
        shares = next(i for i, value in enumerate(below.inputs) if reaches(value, softmax))
        carried = {"query": above.inputs[0], "key": above.inputs[1], "softmax": below.inputs[shares]}
        carried["value"] = below.inputs[1 - shares]
        types = {site: quantized_type(value) for site, value in carried.items()}
        types["context"] = _written_type(below.outputs[0])
        query, scores = lengths(above.inputs[0]), lengths(softmax.inputs[0])
        return Attention(
            block=self.block(softmax) or self.block(above),
            scores=above,
            softmax=softmax,
            context=below,
            between=tuple(n for n in (*before, *after) if n.op_type not in ("QuantizeLinear", "DequantizeLinear")),
            heads=scores[1] if len(scores) == 4 else None,
            head_size=query[-1] if query else None,
            tokens=scores[-1] if scores else None,
            high=_product_type(above.outputs[0]) or "fp32",
            low=next(filter(None, types.values()), None),
            sites=frozenset(site for site, kind in types.items() if kind),
        )

    def _operator(self, node: ir.Node) -> Attention:
        query, key = lengths(node.inputs[0]), lengths(node.inputs[1])
        heads = query[1] if len(query) == 4 else node.attributes.get_int("q_num_heads", 0)
        head_size = query[-1] if len(query) == 4 else query[-1] // heads if query and query[-1] and heads else None
        return Attention(
            block=self.block(node),
            scores=node,
            softmax=node,
            context=node,
            between=(),
            heads=heads or None,
            head_size=head_size,
            tokens=key[-2] if len(key) > 2 else None,
            high=_product_type(node.outputs[0]) or "fp32",
            low=None,
            sites=frozenset(),
        )


def read(path: Path) -> Anatomy:
    """Read an ONNX file; a node whose name says no place is placed by the graph's structure.

    Raises:
        WorkbenchError: the file is no ONNX model.
    """
    model = model_file.load(path)
    complete_shapes(model, path)
    by_name = {node: place_of(node.name or "") for node in model.graph}
    by_structure = {} if all(by_name.values()) else roles(model)
    return Anatomy(path, model, {node: place or by_structure.get(node) for node, place in by_name.items()})


# ---- one node ----------------------------------------------------------------------------------------------------


def name_of(node: ir.Node) -> str:
    """A node's name, or its first output's."""
    return node.name or node.outputs[0].name or node.op_type


def type_of(node: ir.Node) -> str | None:
    """The type that a node computes in: of the Q/DQ on both inputs of a product, else of its tensors."""
    if node.op_type in PRODUCTS and node.op_type != "Attention":
        low = [quantized_type(value) for value in node.inputs[:2]]
        if all(low):
            return low[0]
    return next(filter(None, map(_product_type, (*node.inputs, *node.outputs))), None)


def _product_type(value: ir.Value | None) -> str | None:
    """The type in which products of this tensor compute, or None where there are no such products."""
    kind = of_onnx(value.dtype) if value is not None else None
    return kind.multiplies_in if kind else None


def quantized_type(value: ir.Value | None) -> str | None:
    """``int8`` or ``fp8`` for a tensor that comes out of a DequantizeLinear, moved or cast on the way or not."""
    while value is not None and (producer := value.producer()) is not None:
        if producer.op_type == "DequantizeLinear":
            return _product_type(producer.inputs[0]) or "int8"
        if producer.op_type not in CARRIERS:
            return None
        value = producer.inputs[0]
    return None


def _written_type(value: ir.Value) -> str | None:
    """The type into which all readers of a tensor quantize it, or None."""
    kinds = set()
    for reader, _ in value.uses():
        if reader.op_type == "Cast":
            kinds.add(_written_type(reader.outputs[0]))
        else:
            kinds.add(_product_type(reader.outputs[0]) if reader.op_type == "QuantizeLinear" else None)
    return kinds.pop() if len(kinds) == 1 else None


def macs(node: ir.Node) -> int | None:
    """Multiply-accumulates, for one image where the file leaves the batch open; None where they are not known."""
    if node.op_type == "ConvTranspose" and node.inputs[0].shape is not None:
        return math.prod(per_image(node.inputs[0])) * math.prod(per_image(node.inputs[1])[1:])
    if node.op_type not in PRODUCTS:
        return None if node.op_type in CLOSED or node.domain not in ("", "ai.onnx") else 0
    if node.outputs[0].shape is None or any(v is None or v.shape is None for v in node.inputs[:2]):
        return None
    rows, read_ = math.prod(per_image(node.outputs[0])), per_image(node.inputs[0])
    if node.op_type in ("Conv", "ConvInteger"):
        return rows * math.prod(per_image(node.inputs[1])[1:])
    if node.op_type == "Einsum":
        return _einsum_macs(node)
    if node.op_type == "Attention":
        keys = per_image(node.inputs[1])
        return 2 * rows * keys[-2] if len(keys) >= 3 else None
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transA", 0)
    return rows * read_[0 if transposed else -1] if read_ else None


def _einsum_macs(node: ir.Node) -> int | None:
    """Every letter of the equation once: each is a loop; what an ellipsis stands for is taken from the output."""
    read_, _, written = node.attributes["equation"].as_string().replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for letters, value in zip(read_.split(","), node.inputs):
        shape = per_image(value)
        before, dots, after = letters.partition("...")
        if not dots and len(letters) != len(shape):
            return None
        sizes |= {**dict(zip(before, shape)), **dict(zip(after[::-1], shape[::-1]))}
    inner = math.prod(size for letter, size in sizes.items() if letter not in written)
    if written:
        return inner * math.prod(per_image(node.outputs[0]))
    return math.prod(sizes.values())


def source_of(node: ir.Node) -> str | None:
    """The line of Python that a node comes from, as ``models/vit.py:42``, where the exporter stamped it."""
    for key in STAMPS:
        if stamp := node.metadata_props.get(key):
            return _last_line(stamp)
    return None


#: ``/any/models/vit.py:42 (name)``, innermost first, or ``File "/any/vit.py", line 42``, innermost last.
_LINE = re.compile(r'([^\s":]+\.py)(?:", line |:)(\d+)')


#: Frames of these are no line of anybody's model.
_TOOLS = re.compile(r"site-packages/(torch|onnxscript|jax|jaxlib|jax2onnx|flax)/")


def _last_line(stamp: str) -> str:
    """The innermost line of a trace that is not a framework's, its folders above the last one left out."""
    lines = _LINE.findall(stamp)
    if not lines:
        return stamp.strip()
    lines = lines[::-1] if 'File "' in stamp else lines
    path, number = next((line for line in lines if not _TOOLS.search(line[0])), lines[0])
    return f"{'/'.join(Path(path).parts[-2:])}:{number}"


# ---- walks -------------------------------------------------------------------------------------------------------


def _climb(value: ir.Value | None, steps: int = 12) -> tuple[ir.Node | None, list[ir.Node]]:
    """From a softmax up to the product of two activations, and the nodes on the way."""
    passed = []
    for _ in range(steps):
        node = value.producer() if value is not None else None
        if node is None:
            break
        if node.op_type in ("MatMul", "Einsum") and all(array(v) is None for v in node.inputs):
            return node, passed[::-1]
        if node.op_type not in (*ADJUSTMENTS, "QuantizeLinear", "DequantizeLinear"):
            break
        passed.append(node)
        value = _computed_input(node)
    return None, []


def _computed_input(node: ir.Node) -> ir.Value | None:
    """The input of an elementwise node that a product leads to: the computed one with the most dimensions."""
    computed = [v for v in node.inputs if v is not None and array(v) is None]
    if node.op_type == "Where":
        computed = [v for v in computed if v is not node.inputs[0]] or computed
    return max(computed, key=lambda v: len(v.shape) if v.shape is not None else 0, default=None)


def _descend(value: ir.Value, steps: int = 12) -> tuple[ir.Node | None, list[ir.Node]]:
    """From a softmax down to the product that reads it, and the nodes on the way."""
    passed: list[ir.Node] = []
    for _ in range(steps):
        readers = [reader for reader, _ in value.uses()]
        product = next((r for r in readers if r.op_type in ("MatMul", "Einsum")), None)
        if product is not None:
            return (product, passed) if all(array(v) is None for v in product.inputs) else (None, [])
        onward = [r for r in readers if r.op_type in (*ADJUSTMENTS, "QuantizeLinear", "DequantizeLinear")]
        if not onward:
            break
        passed.append(onward[0])
        value = onward[0].outputs[0]
    return None, []


def reaches(value: ir.Value | None, node: ir.Node, steps: int = 12) -> bool:
    """Whether a tensor was made by a node, through adjustments and Q/DQ only."""
    return any(one is node for one in upstream(value, steps))


def upstream(value: ir.Value | None, steps: int) -> Iterator[ir.Node]:
    """The producers of a tensor, nearest first, along the computed input."""
    for _ in range(steps):
        node = value.producer() if value is not None else None
        if node is None:
            return
        yield node
        value = _computed_input(node)
