"""The seconds of each layer of an engine that cannot run here, estimated at the roofline of a card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..backends.hardware.peaks import Peak, peak_of
from ..backends.tensorrt.layers import Layer, layers_of, narrowest
from ..dtypes import PRODUCT_TYPES, TYPES
from ..errors import refuse_unless
from ..graphs.analysis.place_sizes import Counted, count
from ..records import Engine, Graph
from .cost import cost
from .layers import ATTENTION, Timed, is_product


def estimate_layers(engine: Engine, batch: int, card: str) -> tuple[list[Timed], float]:
    """Estimate each layer of a built engine from a card's published peaks.

    A layer takes the time of its products at the peak, or the time of its tensors once through memory, whichever is
    longer. A call is the sum of its layers; the launches of kernels are not counted.

    Args:
        engine: with a list of its layers.
        batch: images per call.
        card: with published peaks.

    Returns:
        The layers with their seconds, and the seconds of a call.

    Raises:
        WorkbenchError: the peaks of the card or the cost of the model are not known, or the compiler hides layers.
    """
    graph, peak, layers = engine.variant.graph, peak_of(card), layers_of(engine)
    hidden = [layer for layer in layers if layer.is_opaque]
    refuse_unless(
        bool(layers) and not hidden,
        f"{engine.label} cannot be estimated",
        why=f"{len(hidden)} of its {len(layers)} layers hide their contents",
        remedy="run it on its GPU, or build it with tensorrt-rtx, whose log lists every kernel",
    )
    sizes_of = _sizes_by_block(graph, batch)
    timed = [Timed(layer, _at_roofline(layer, sizes_of(_block(layer)), batch, peak)) for layer in layers]
    return timed, sum(one.seconds for one in timed)


class _Sizes(NamedTuple):
    """A block's multiply-accumulates in a call, by role, and the numbers of its tensors for one image."""

    macs: Mapping[str, int]
    scores: int
    hidden: int
    stream: int


def _sizes_by_block(graph: Graph, batch: int) -> Callable[[str | None], _Sizes]:
    """The sizes of a block, or of what is outside the blocks for None."""
    if (spec := graph.spec) is not None:  # every block is like the others
        macs = {part.role: part.macs for part in cost(spec, batch).parts}
        alike = _Sizes(macs, spec.heads * spec.tokens**2, spec.tokens * spec.mlp, spec.tokens * spec.width)
        return lambda block: alike
    blocks: dict[str | None, dict[str, Counted]] = {}
    for place in count(graph):
        blocks.setdefault(None if place.block == place.role else place.block, {})[place.role] = place
    sizes = {}
    for block, places in blocks.items():
        widest = {role: place.widest for role, place in places.items()}
        stream = widest.get("proj") or min(widest.values())
        macs = {role: batch * place.macs for role, place in places.items()}
        sizes[block] = _Sizes(macs, widest.get("softmax", stream), widest.get("fc1", stream), stream)
    nothing = _Sizes({}, 0, 0, 0)
    return lambda block: sizes.get(block, nothing)


def _block(layer: Layer) -> str | None:
    """The first block that a layer computes in."""
    return next((place.block for place in layer.places if place.block), None)


def _at_roofline(layer: Layer, sizes: _Sizes, batch: int, peak: Peak) -> float:
    roles = {place.role for place in layer.places}
    if not roles:
        return 0.0
    inputs = [kind for kind in layer.inputs if kind != layer.scales]  # a scale for 16 or 32 numbers hardly counts
    widths = [TYPES[kind].bits / 8 for kind in (*inputs, *layer.outputs) if kind in PRODUCT_TYPES]
    memory_s = batch * sum(widths) * _elements(layer, roles, sizes) / peak.bandwidth
    flops = 2 * _macs(layer, roles, sizes.macs)
    return max(memory_s, flops / _rate(layer, peak) if flops else 0.0)


def _macs(layer: Layer, roles: set[str], macs: Mapping[str, int]) -> float:
    """Multiply-accumulates of a layer's products; where attention is not fused, q kᵀ is half of its role."""
    if not (layer.is_attention or is_product(layer)):
        return 0.0
    halves = {product for product in ("scores", "context") if any(f"/{product}" in node for node in layer.nodes)}
    share = 1.0 if layer.is_attention else len(halves) / 2
    return sum(macs.get(role, 0) * (share if role == "scores" else 1.0) for role in roles)


def _elements(layer: Layer, roles: set[str], sizes: _Sizes) -> int:
    """Numbers in the widest tensor that a layer must move for one image; a fused attention writes no scores."""
    if roles.intersection(ATTENTION) and not layer.is_attention:
        return sizes.scores
    return sizes.hidden if roles.intersection(("gelu", "activation")) or roles == {"fc1"} else sizes.stream


def _rate(layer: Layer, peak: Peak) -> float:
    """FLOP/s in the type that a product multiplies in; one that casts its inputs computes in what it writes."""
    if layer.is_cast:
        return peak.of(narrowest(layer.outputs) or "fp32")
    return peak.of(layer.multiplies_in or narrowest(layer.inputs) or "fp32")
