"""Seconds of each layer of an engine: taken where it runs, estimated at a card's roofline where it does not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

from ..backends import backend, open_engine
from ..backends.base import Session
from ..backends.hardware.cards import capability
from ..backends.hardware.gpu import gpus
from ..backends.hardware.peaks import Peak, peak_of
from ..backends.tensorrt.layers import Layer, layers_of
from ..errors import WorkbenchError, refuse_unless
from ..measuring.measurement import one_batch
from ..measuring.subject import Subject
from ..measuring.timing import Feeds
from ..places import Place
from ..records import Engine, ModelSpec
from .parts import BY_OPERATOR

LINEAR = ("qkv", "proj", "fc1", "fc2", "head", "embedding", "pre_logits")
ATTENTION = ("scores", "softmax")
#: Operators of ONNX Runtime that compute a matrix product; those of TensorRT are known by ``Layer.is_product``.
PRODUCTS = (
    *("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "Conv", "MatMulInteger", "MatMulIntegerToFloat"),
    *("DynamicQuantizeMatMul", "QLinearMatMul", "QGemm", "QLinearConv"),
)


class Timed(NamedTuple):
    """A layer and the seconds that it takes in one call."""

    layer: Layer
    seconds: float


def is_product(layer: Layer) -> bool:
    """Whether a layer of either runtime computes a matrix product other than a fused attention's."""
    return layer.is_product or layer.kind in PRODUCTS


#: Nodes that a recipe adds bear the name of the place that they are for, which is often the next layer's.
_ADDED = re.compile(r"/(?:quantize|dequantize|fp16|bf16|fp32)$")


def places_of(layers: Iterable[Timed]) -> list[tuple[Place, ...]]:
    """Where the nodes of each layer stand; one without a name of ours stands where the layer before it does.

    Q/DQ and casts count only where a layer consists of nothing else.
    """
    before: tuple[Place, ...] = ()
    found = []
    for layer, _ in layers:
        own = layer._replace(nodes=tuple(name for name in layer.nodes if not _ADDED.search(name)))
        if layer.places:
            before = own.places or layer.places
        elif before:
            before = (Place(before[-1].block, BY_OPERATOR.get(layer.kind, before[-1].role)),)
        found.append(before)
    return found


def main_place(places: Sequence[Place]) -> Place:
    """The place that a layer is counted under: its product's or its attention's, else its first."""
    heavy = (place for place in places if place.role in (*LINEAR, *ATTENTION))
    return next(heavy, places[0] if places else Place(None, "unnamed"))


def runs_here(engine: Engine) -> bool:
    """Whether this machine can execute an engine: TensorRT's need the GPU that they were built for."""
    if backend(engine.backend).missing() is not None:
        return False
    here = gpus() if engine.backend != "onnxruntime" else ()
    return engine.backend == "onnxruntime" or (
        bool(here) and (engine.card is None or capability(engine.card) == here[0].sm)
    )


def time_layers(engine: Engine, batch: int) -> tuple[list[Timed], float]:
    """Run an engine on noise: its layers with their seconds, and the seconds of a call, medians.

    Raises:
        WorkbenchError: the runtime tells no layer times.
    """
    subject = Subject.of(engine)
    feeds = subject.feeds(one_batch(subject, None, batch))
    with open_engine(engine) as session:
        session.time(feeds, 2)
        before_s = median(_calls(session, feeds))
        rows = session.layers(feeds)
        if rows is None:
            raise WorkbenchError(
                f"The layers of {engine.label} cannot be timed",
                why=f"{engine.backend} tells no layer times",
                remedy="name a card, for an estimate",
            )
        whole_s = min(before_s, median(_calls(session, feeds)))  # a machine's slow moment is in one of them only
    known = {layer.name: layer for layer in layers_of(engine)} if engine.backend != "onnxruntime" else {}
    timed = [
        Timed(known.get(row["name"]) or Layer(row["name"], row["type"], (row["name"],), (), ()), row["seconds"])
        for row in rows
    ]
    return timed, whole_s


def _calls(session: Session, feeds: Feeds) -> list[float]:
    return session.device_time(feeds, 10) or session.time(feeds, 10)


def estimate_layers(engine: Engine, batch: int, card: str) -> tuple[list[Timed], float]:
    """Each layer of a built engine at the roofline of a card: its products at the peak, or its tensors once through
    memory, whichever takes longer. A call is the sum; launching kernels counts nothing.

    Raises:
        WorkbenchError: the peaks of the card or the shape of the model are not known, or the compiler hides layers.
    """
    spec, peak, layers = engine.variant.graph.spec, peak_of(card), layers_of(engine)
    refuse_unless(
        spec is not None,
        f"{engine.label} cannot be estimated",
        why="the shape of its model is not known",
        remedy="bring the model in with export_onnx, or with import_onnx where its shape can be read off",
    )
    hidden = [layer for layer in layers if layer.is_opaque]
    refuse_unless(
        bool(layers) and not hidden,
        f"{engine.label} cannot be estimated",
        why=f"{len(hidden)} of its {len(layers)} layers hide what is in them",
        remedy="run it on its GPU, or build it with tensorrt-rtx, whose log lists every kernel",
    )
    timed = [Timed(layer, _at_roofline(layer, spec, batch, peak)) for layer in layers]
    return timed, sum(one.seconds for one in timed)


#: Bytes of a number.
WIDTHS = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}


def _at_roofline(layer: Layer, spec: ModelSpec, batch: int, peak: Peak) -> float:
    roles = {place.role for place in layer.places}
    if not roles:
        return 0.0
    read = sum(WIDTHS.get(kind, 0) for kind in layer.inputs)
    written = sum(WIDTHS.get(kind, 0) for kind in layer.outputs)
    memory_s = batch * (read + written) * _elements(layer, roles, spec) / peak.bandwidth
    computed = [role for role in MACS if role in roles] if is_product(layer) or layer.is_attention else []
    flops = 2 * batch * sum(MACS[role](spec) for role in computed)
    return max(memory_s, flops / _rate(layer, peak) if flops else 0.0)


#: Role -> multiply-accumulates of one image, as in ``models.cost``; the two products of an attention are halves.
MACS = {
    "qkv": lambda s: 3 * s.tokens * s.width**2,
    "proj": lambda s: s.tokens * s.width**2,
    "fc1": lambda s: s.tokens * s.width * s.mlp,
    "fc2": lambda s: s.tokens * s.width * s.mlp,
    "scores": lambda s: 2 * s.tokens**2 * s.width,
    "embedding": lambda s: 3 * s.grid**2 * s.patch**2 * s.width,
    "head": lambda s: s.width * s.classes,
}


def _elements(layer: Layer, roles: set[str], spec: ModelSpec) -> int:
    """Numbers in the widest tensor that a layer must move; a fused attention keeps its scores to itself."""
    if roles.intersection(ATTENTION) and not layer.is_attention:
        return spec.heads * spec.tokens**2
    if "gelu" in roles or roles == {"fc1"}:
        return spec.tokens * spec.mlp
    return spec.tokens * spec.width


def _rate(layer: Layer, peak: Peak) -> float:
    """A product that casts what it reads computes in what it writes."""
    kinds = layer.outputs if layer.is_cast else layer.inputs
    kind = min((k for k in kinds if k in WIDTHS), key=WIDTHS.__getitem__, default="fp32")
    return peak.of(kind if kind in ("int8", "fp8", "fp16", "bf16") else "fp32")
