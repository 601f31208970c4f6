"""The ModelSpec that describes a clean graph, where one does."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import onnx_ir as ir

from ...errors import WorkbenchError
from ...places import block_name
from ...records import ModelSpec
from .operators import NORMALIZATIONS, PRODUCTS, REDUCTIONS, WITHOUT_ARITHMETIC, name_of
from .values import array, elements, known_lengths, lengths, number


class _Unlike(Exception):
    """The graph is no ViT that a ModelSpec describes; the message says why."""


def infer(model: ir.Model, places: dict[ir.Node, str], name: str, image_size: int) -> tuple[ModelSpec | None, str]:
    """The spec, and a sentence on what it leaves out; or None, and why no ModelSpec describes the model.

    Args:
        model: a clean model.
        places: the place of each node.
        name: the spec's name.
        image_size: pixels along an edge of the input.
    """
    try:
        read = _Reader(places)
        outside = [node for node in model.graph if node.op_type in PRODUCTS and node not in places]
        if outside and places:
            raise _Unlike(
                f"{len(outside)} products, {name_of(outside[0])} first, stand between or around its blocks"
            )
        spec = _infer(read, name, image_size, lengths(model.graph.outputs[0])[-1:])
        left_out = ", ".join(read.left_out())
        return spec, f"The ModelSpec leaves out: {left_out}." if left_out else ""
    except _Unlike as reason:
        return None, f"No ModelSpec describes this model: {reason}."


def _infer(read: _Reader, name: str, image_size: int, classes: tuple[int | None, ...]) -> ModelSpec:
    depth = len({place for place in read.places.values() if place.endswith("residual1")})
    blocks = [read.block(block_name(i)) for i in range(depth)]
    if not blocks:
        raise _Unlike("no block of attention and MLP was found")
    if len(set(blocks)) > 1:
        raise _Unlike("its blocks differ in size")
    width, mlp, heads, tokens = blocks[0]
    patch = read.patch(width, image_size)
    try:
        spec = ModelSpec(
            name=name,
            image_size=image_size,
            patch=patch,
            width=width,
            depth=depth,
            heads=heads,
            mlp=mlp,
            classes=next(iter(classes), None) or 0,
            classifier=read.classifier(),
            representation=read.representation(),
        )
    except WorkbenchError as error:
        raise _Unlike(f"{error.what} ({error.why})") from error
    if spec.tokens < tokens:
        return dataclasses.replace(spec, extra_tokens=tokens - spec.tokens)
    if spec.tokens != tokens:
        raise _Unlike(
            f"it has {tokens} tokens where {spec.classifier} pooling of {spec.grid}² patches has {spec.tokens}"
        )
    return spec


class _Reader:
    """Looks nodes up by place."""

    def __init__(self, places: dict[ir.Node, str]):
        self.places = places

    def nodes(self, place: str, *kinds: str) -> list[ir.Node]:
        return [node for node, found in self.places.items() if found == place and node.op_type in kinds]

    def one(self, place: str, *kinds: str) -> ir.Node:
        nodes = self.nodes(place, *kinds)
        if len(nodes) != 1:
            raise _Unlike(f"{place} holds {len(nodes)} nodes of kind {' or '.join(kinds)}")
        return nodes[0]

    def block(self, name: str) -> tuple[int, int, int, int]:
        """Width, MLP width, heads and tokens."""
        layers = ("attention/proj", "mlp/fc1", "mlp/fc2")
        proj, fc1, fc2 = (array(self.one(f"{name}/{layer}", "MatMul").inputs[1]) for layer in layers)
        scores = known_lengths(self.one(f"{name}/attention/softmax", "Softmax").outputs[0], 1)
        if proj is None or fc1 is None or scores is None:
            raise _Unlike(f"{name} has no plain attention and MLP")
        if fc2 is None or len(fc2) != fc1.shape[1]:
            raise _Unlike(f"the MLP of {name} is gated")
        return proj.shape[1], fc1.shape[1], scores[0], scores[-1]

    def patch(self, width: int, image_size: int) -> int:
        """The patch's edge, from the product of patches, (B, patches, pixels of one), and weights."""
        if self.nodes("embedding", "Conv"):
            raise _Unlike("its patches overlap, or it convolves the image in several steps")
        product = self.one("embedding", "MatMul")
        count, pixels = known_lengths(product.inputs[0], 1) or (0, 0)
        grid = math.isqrt(count)
        patch = image_size // max(grid, 1)
        square = grid * patch == image_size and grid**2 == count and pixels % patch**2 == 0
        if not square or elements(product.inputs[1]).shape[1] != width:
            raise _Unlike("its patches are not square")
        return patch

    def classifier(self) -> str:
        """``token`` where the first token goes to the head, ``gap`` for the mean."""
        pools = self.nodes("pool", "Gather", "ReduceMean")
        tokens = [number(pool.inputs[1]) for pool in pools if pool.op_type == "Gather"]
        if not pools:
            raise _Unlike("nothing takes one token, or the mean of all, to its head")
        if tokens and 0 not in tokens:
            raise _Unlike("its head reads another token than the first")
        return "token" if tokens else "gap"

    def representation(self) -> int | None:
        """The width of the layer before the head, if there is one."""
        products = self.nodes("pre_logits", "MatMul")
        return elements(products[0].inputs[1]).shape[1] if products else None

    def left_out(self) -> Iterator[str]:
        """What the model computes beside what a ModelSpec says, in the words of the field."""
        split = self.every("attention/split")
        kinds = {node.op_type for node in split}
        if "RotaryEmbedding" in kinds or ("Mul" in kinds and kinds.intersection(("Neg", "Sub", "Concat"))):
            yield "rotary position embeddings"
        if kinds.intersection((*NORMALIZATIONS, *REDUCTIONS)):
            yield "norms of q and k"
        if any(node.op_type in ("Add", "Sub", "Where") for node in self.every("attention/scale")):
            yield "what is added to the scores, such as relative positions or a mask"
        if any(map(self._is_parallel, self.every("residual1"))):
            yield "that attention and MLP are computed side by side"
        if self.every("mlp/activation"):
            yield "that the MLP's function is not GELU"
        norms = {node.op_type for place in ("norm1", "norm2") for node in self.every(place)}
        if norms.difference(("LayerNormalization", *WITHOUT_ARITHMETIC)):
            yield "norms other than LayerNorm"
        if len(self.nodes("pool", "Gather", "ReduceMean")) > 1:
            yield "that the head reads more than one token or mean"

    def every(self, inside: str) -> list[ir.Node]:
        """The nodes of one place in any block."""
        return [n for n, place in self.places.items() if place.startswith("block") and place.endswith(f"/{inside}")]

    def _is_parallel(self, node: ir.Node) -> bool:
        """Whether the addition of an attention also adds an MLP."""
        made = [self.places.get(value.producer()) or "" for value in node.inputs if value and value.producer()]
        return any(place.endswith("mlp/fc2") for place in made)
