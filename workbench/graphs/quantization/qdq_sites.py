"""Where Q/DQ pairs go in each scope, and what a recipe excludes.

``linear`` quantizes what the four products with weights of a block read (qkv, proj, fc1, fc2); ``attention`` adds
what both products of an attention read and write. Neither quantizes the patch embedding and the head: together they
are 1.3 % of a ViT-S/16's multiplications, and rounding there affects the whole image or the logits themselves.
``everything`` quantizes them too, with LayerNorm, softmax, GELU and the residual additions.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ...errors import WorkbenchError
from ...places import is_excluded, place_of
from ...records import Recipe
from ..structure.attention import find_attentions
from ..structure.operators import DENSE_PRODUCTS, PRODUCTS, WITHOUT_ARITHMETIC, name_of
from ..structure.values import FLOATS, array, input_of, producer_of, tensor_name


@dataclass(frozen=True, eq=False)
class QdqSite:
    """One activation to quantize where one node reads it, or, with ``index`` None, where the node writes it."""

    node: ir.Node
    index: int | None

    @property
    def value(self) -> ir.Value:
        """The tensor."""
        return self.node.outputs[0] if self.index is None else input_of(self.node, self.index)

    @property
    def tensor(self) -> str:
        """The tensor's name."""
        return tensor_name(self.value)

    @property
    def place(self) -> str:
        """``block03/fc2``, ``head``, or the node's own name where it has no place."""
        return place_name(self.node)

    @property
    def probabilities(self) -> bool:
        """Whether the tensor is a softmax's output, so that its values lie in 0...1."""
        producer = producer_of(self.value)
        return producer is not None and producer.op_type == "Softmax"

    @property
    def gelu(self) -> bool:
        """Whether the tensor is a GELU's output, so that most of its values crowd just below zero."""
        producer = producer_of(self.value)
        return producer is not None and (producer.op_type == "Gelu" or role_of(producer) == "gelu")


def place_name(node: ir.Node) -> str:
    """The short name of the place where a node stands, ``block03/qkv``, or its own name where it has no place."""
    place = place_of(node.name or "")
    return place.name if place else name_of(node)


def role_of(node: ir.Node) -> str | None:
    """The role of the place where a node stands, ``qkv``, or None where it has no place."""
    place = place_of(node.name or "")
    return place.role if place else None


def linear_products(model: ir.Model) -> list[ir.Node]:
    """The products with constant weights, but for the patch embedding and the layers of the head."""
    found = [node for node in model.graph if node.op_type in DENSE_PRODUCTS and _is_linear(node)]
    return [node for node in found if node is not _patch_product(model)]


def _patch_product(model: ir.Model) -> ir.Node | None:
    """The product that turns patches of the image into tokens: the first of the embedding."""
    return next((node for node in model.graph if node.op_type in PRODUCTS and role_of(node) == "embedding"), None)


def _has_weights(node: ir.Node) -> bool:
    return any((weight := array(value)) is not None and weight.ndim >= 2 for value in node.inputs)


def _is_linear(node: ir.Node) -> bool:
    head = role_of(node) in ("pre_logits", "head")
    return not head and array(node.inputs[1]) is not None and array(node.inputs[0]) is None


def attention_products(model: ir.Model) -> list[ir.Node]:
    """The products of two activations around a softmax: q kᵀ and probabilities v; none where q is learnt."""
    own = [each for each in find_attentions(model) if array(each.query) is None]
    found = {node for each in own for node in (each.scores, each.context)}
    return [node for node in model.graph if node in found and node.op_type == "MatMul"]


def qdq_sites(model: ir.Model, scope: str) -> list[QdqSite]:
    """Every activation that a scope quantizes, in the order of the graph."""
    return {"linear": _linear, "attention": _attention, "everything": _everything}[scope](model)


def _linear(model: ir.Model) -> list[QdqSite]:
    return [QdqSite(node, 0) for node in linear_products(model)]


def _attention(model: ir.Model) -> list[QdqSite]:
    """The linear sites, and q, k, v, the probabilities and the second product's output.

    TensorRT fuses INT8 attention only when all five are quantized.
    """
    products = set(attention_products(model)) | set(linear_products(model))
    found = []
    for node in model.graph:
        if node in products:
            found += [QdqSite(node, i) for i in (0, 1) if array(node.inputs[i]) is None]
            if node.op_type == "MatMul" and QdqSite(node, 0).probabilities:
                found.append(QdqSite(node, None))
    return found


def _everything(model: ir.Model) -> list[QdqSite]:
    """Every activation that an operator computes with.

    A GELU that opset 17 spells out in nine nodes stays whole: TensorRT for RTX 1.7 cannot compile Q/DQ inside it.
    """
    return [
        QdqSite(node, index)
        for node in model.graph
        if node.op_type not in WITHOUT_ARITHMETIC and not _inside_gelu(node)
        for index, value in enumerate(node.inputs)
        if value is not None and array(value) is None and value.dtype in FLOATS
    ]


def excluded(node: ir.Node, exclude: tuple[str, ...]) -> bool:
    """Whether a recipe leaves a node in high precision."""
    return is_excluded(node.name or "", exclude) or place_name(node) in exclude


def _inside_gelu(node: ir.Node) -> bool:
    return role_of(node) == "gelu" and node.op_type != "Gelu"


def unnamed_notes(model: ir.Model) -> list[str]:
    """A note on the linear layers whose place in the ViT is unknown, where there are any."""
    unnamed = [place_name(each) for each in linear_products(model) if role_of(each) is None]
    if not unnamed:
        return []
    return [
        f"{len(unnamed)} products belong to no known block, {unnamed[0]} first; a recipe excludes them by that name"
    ]


def unquantized_notes(model: ir.Model) -> list[str]:
    """A note on products with weights that no scope but ``everything`` quantizes, beside patches and head."""
    known = set(linear_products(model))
    products = [each for each in model.graph if each.op_type in PRODUCTS and _has_weights(each)]
    left = [each for each in products if each not in known and role_of(each) not in ("pre_logits", "head")]
    left = [each for each in left if each is not _patch_product(model)]
    if not left:
        return []
    kinds = " and ".join(sorted({each.op_type for each in left}))
    first = place_name(left[0])
    return [
        f"{len(left)} of {len(products)} products with weights are no MatMul ({kinds}) and stay high, {first} first"
    ]


def check_excluded(model: ir.Model, recipe: Recipe) -> None:
    """Raise a ``WorkbenchError`` for a name in ``exclude`` that the graph does not have."""
    import difflib

    for name in recipe.exclude:
        if any(excluded(node, (name,)) for node in model.graph):
            continue
        known = sorted({place_name(n) for n in linear_products(model) + attention_products(model)})
        near = difflib.get_close_matches(name, known, n=1)
        raise WorkbenchError(
            f"The recipe excludes {name!r}, which the graph does not have",
            why=f"its places are {', '.join(known[:6])} … ({len(known)} in all)",
            remedy=f"did you mean {near[0]!r}?" if near else "write a block (block03) or a place (block03/fc2)",
        )
