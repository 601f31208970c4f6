"""What a recipe does to the attention of a block: the type around it, the type of its Q/DQ, and where that is."""

from __future__ import annotations

from ..backends.tensorrt.attention_kernels import EVERYWHERE, SITES
from ..places import is_excluded
from ..records import PRECISIONS, Recipe


def attention_types(recipe: Recipe, block: str) -> tuple[str, str | None, frozenset[str]]:
    """What a recipe does to attention: the type around it, the type of its Q/DQ or None, the tensors with Q/DQ."""
    if not recipe.is_mixed:
        return "fp32" if _is_float(recipe, f"{block}/attention") else recipe.precision, None, frozenset()
    if recipe.scope == "linear" or PRECISIONS[recipe.precision].linear_only:
        return recipe.resolved_high_precision, None, frozenset()
    reached = EVERYWHERE if recipe.scope == "everything" else SITES
    sites = frozenset(
        site for site, node in reached.items() if not is_excluded(f"{block}/attention/{node}", recipe.exclude)
    )
    return recipe.resolved_high_precision, recipe.precision if sites else None, sites


#: The products of an attention, and the nodes around each; the other product is left out.
AROUND = {
    "scores": (("scale",), ("split",), ("softmax",)),
    "context": (("split",), ("softmax",), ("merge", "proj")),
}


def _is_float(recipe: Recipe, attention: str) -> bool:
    """Whether ``exclude`` leaves a product in float32: where all its neighbours are 16-bit, casts are dropped."""

    def excluded(*nodes: str) -> bool:
        return all(is_excluded(f"{attention}/{node}", recipe.exclude) for node in nodes)

    return any(excluded(product) and any(excluded(*one) for one in around) for product, around in AROUND.items())
