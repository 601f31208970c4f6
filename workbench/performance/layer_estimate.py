"""The seconds of each layer of an engine that cannot run here, estimated at the roofline of a card."""

from __future__ import annotations

from collections.abc import Mapping

from ..backends.hardware.peaks import Peak, peak_of
from ..backends.tensorrt.layers import Layer, layers_of
from ..dtypes import PRODUCT_TYPES, TYPES
from ..errors import WorkbenchError, refuse_unless
from ..records import Engine, ModelSpec
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
        WorkbenchError: the peaks of the card or the shape of the model are not known, or the compiler hides layers.
    """
    spec, peak, layers = engine.variant.graph.spec, peak_of(card), layers_of(engine)
    if spec is None:
        raise WorkbenchError(
            f"{engine.label} cannot be estimated",
            why="the shape of its model is not known",
            remedy="bring the model in with export_onnx, or with import_onnx where its shape can be inferred",
        )
    hidden = [layer for layer in layers if layer.is_opaque]
    refuse_unless(
        bool(layers) and not hidden,
        f"{engine.label} cannot be estimated",
        why=f"{len(hidden)} of its {len(layers)} layers hide their contents",
        remedy="run it on its GPU, or build it with tensorrt-rtx, whose log lists every kernel",
    )
    macs = {part.role: part.macs for part in cost(spec, batch).parts}  # every block is like the others
    timed = [Timed(layer, _at_roofline(layer, macs, batch, spec, peak)) for layer in layers]
    return timed, sum(one.seconds for one in timed)


def _at_roofline(layer: Layer, macs: Mapping[str, int], batch: int, spec: ModelSpec, peak: Peak) -> float:
    roles = {place.role for place in layer.places}
    if not roles:
        return 0.0
    widths = [TYPES[kind].bits / 8 for kind in (*layer.inputs, *layer.outputs) if kind in PRODUCT_TYPES]
    memory_s = batch * sum(widths) * _elements(layer, roles, spec) / peak.bandwidth
    flops = 2 * _macs(layer, roles, macs)
    return max(memory_s, flops / _rate(layer, peak) if flops else 0.0)


def _macs(layer: Layer, roles: set[str], macs: Mapping[str, int]) -> float:
    """Multiply-accumulates of a layer's products; where attention is not fused, q kᵀ is half of its role."""
    if not (layer.is_attention or is_product(layer)):
        return 0.0
    halves = {product for product in ("scores", "context") if any(f"/{product}" in node for node in layer.nodes)}
    share = 1.0 if layer.is_attention else len(halves) / 2
    return sum(macs.get(role, 0) * (share if role == "scores" else 1.0) for role in roles)


def _elements(layer: Layer, roles: set[str], spec: ModelSpec) -> int:
    """Numbers in the widest tensor that a layer must move for one image; a fused attention writes no scores."""
    if roles.intersection(ATTENTION) and not layer.is_attention:
        return spec.heads * spec.tokens**2
    if roles.intersection(("gelu", "activation")) or roles == {"fc1"}:
        return spec.tokens * spec.mlp
    return spec.tokens * spec.width


def _rate(layer: Layer, peak: Peak) -> float:
    """FLOP/s in the narrowest type that a product reads; one that casts its inputs computes in what it writes."""
    kinds = layer.outputs if layer.is_cast else layer.inputs
    return peak.of(min((k for k in kinds if k in PRODUCT_TYPES), key=lambda k: TYPES[k].bits, default="fp32"))
