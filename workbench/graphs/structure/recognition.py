"""What was not recognised in a model: attentions outside every block, and products without a place."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from ...places import place_of
from .attention import find_attentions
from .operators import PRODUCTS, UNCOUNTED_PRODUCTS, name_of


def left_out(model: ir.Model) -> Iterator[str]:
    """One note each, for a model whose nodes are named by place; nothing where no node has a place."""
    placed = {node: place_of(node.name or "") for node in model.graph}
    if not any(placed.values()):
        return
    attentions = find_attentions(model)
    inside = sum(1 for each in attentions if (place := placed[each.softmax]) is not None and place.block)
    if inside < len(attentions):
        yield f"{inside} of {len(attentions)} attentions stand in blocks; no residual of theirs follows the others."
    products = [node for node in model.graph if node.op_type in (*PRODUCTS, *UNCOUNTED_PRODUCTS)]
    unknown = [node for node in products if placed[node] is None]
    if unknown:
        first = name_of(unknown[0])
        yield f"{len(unknown)} of {len(products)} products have no place in a block or around them, {first} first."
