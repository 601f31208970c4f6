"""The seconds of each layer of an engine, and the block and role in which it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from ..backends import backend, open_engine
from ..backends.base import Session
from ..backends.hardware.cards import capability
from ..backends.hardware.gpu import gpus
from ..backends.tensorrt.layers import Layer, layers_of
from ..errors import WorkbenchError
from ..graphs.structure.operators import CONVOLUTIONS, INTEGER_MATRIX_PRODUCTS, MATRIX_PRODUCTS
from ..measuring.measurement import one_batch
from ..measuring.subject import Subject
from ..measuring.timing import Feeds
from ..places import Place, place_of
from ..records import Engine
from .cost import LINEAR_ROLES

#: Calls whose median is the time of a whole call.
CALLS = 10
#: Roles with a matrix product of activations and weights, and roles of attention's own two products.
LINEAR = (*LINEAR_ROLES, "head", "embedding", "pre_logits")
ATTENTION = ("scores", "softmax")
#: ONNX Runtime's operators with a matrix product, its own fused ones last; ``Layer.is_product`` knows TensorRT's.
PRODUCTS = (
    *(*MATRIX_PRODUCTS, *INTEGER_MATRIX_PRODUCTS, *CONVOLUTIONS),
    *("FusedMatMul", "FusedGemm", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QGemm"),
)
#: ONNX Runtime's operators whose layers carry no node's name, and the role in which a ViT has them.
BY_OPERATOR = {
    **dict.fromkeys(("Gelu", "FastGelu", "BiasGelu", "QuickGelu"), "gelu"),
    "SkipLayerNormalization": "residual",  # and the norm behind it
    **dict.fromkeys(("FusedMatMul", "Softmax", "MultiHeadAttention", "Attention"), "scores"),
}


class Timed(NamedTuple):
    """A layer and its seconds in one call."""

    layer: Layer
    seconds: float


# ---- seconds -----------------------------------------------------------------------------------------------------


def time_session(session: Session, feeds: Feeds, calls: int = CALLS) -> tuple[list[dict], list[float]]:
    """Time the layers of one call, and whole calls before and after it.

    Args:
        session: of a runtime that times its layers.
        feeds: one batch.
        calls: whole calls on each side of the timed layers.

    Returns:
        The rows of ``Session.layers``, and the seconds of the whole calls on the faster side: a slow moment of the
        machine is on one side only.

    Raises:
        WorkbenchError: the runtime does not time its layers.
    """
    session.time(feeds, 2)
    before = session.device_time(feeds, calls) or session.time(feeds, calls)
    rows = session.layers(feeds)
    if rows is None:
        raise WorkbenchError(
            "The time of the layers is not known",
            why=f"a {type(session).__name__} gives no times of layers",
            remedy="use an engine of onnxruntime or tensorrt; models.meter times the parts of the JAX model",
        )
    after = session.device_time(feeds, calls) or session.time(feeds, calls)
    return rows, list(min(before, after, key=median))


def time_engine(engine: Engine, batch: int) -> tuple[list[dict], list[float]]:
    """``time_session`` of an engine that runs on noise."""
    subject = Subject.of(engine)
    with open_engine(engine) as session:
        return time_session(session, subject.feeds(one_batch(subject, None, batch)))


def time_layers(engine: Engine, batch: int) -> tuple[list[Timed], float]:
    """Run an engine on noise: its layers with their seconds, and the median seconds of a call.

    Raises:
        WorkbenchError: the runtime does not time its layers.
    """
    rows, calls = time_engine(engine, batch)
    known = {layer.name: layer for layer in layers_of(engine)} if engine.backend != "onnxruntime" else {}
    timed = [
        Timed(known.get(row["name"]) or Layer(row["name"], row["type"], (row["name"],), (), ()), row["seconds"])
        for row in rows
    ]
    return timed, median(calls)


def runs_here(engine: Engine) -> bool:
    """Whether this machine can run an engine: TensorRT's need the GPU that they were built for."""
    if backend(engine.backend).missing() is not None:
        return False
    if engine.backend == "onnxruntime":
        return True
    here = gpus()
    return bool(here) and (engine.card is None or capability(engine.card) == here[0].sm)


# ---- blocks and roles --------------------------------------------------------------------------------------------


def is_product(layer: Layer) -> bool:
    """Whether a layer of either runtime computes a matrix product other than a fused attention's."""
    return layer.is_product or layer.kind in PRODUCTS


#: A node that a recipe adds is named after the place that it is for. That is often the place of the next layer.
_ADDED = re.compile(r"/(?:quantize|dequantize|fp16|bf16|fp32)$")


def places_of(layers: Iterable[Timed]) -> list[tuple[Place, ...]]:
    """The places of each layer's nodes. A layer without a known name stands where the layer before it does.

    Q/DQ nodes and casts count only where a layer consists of nothing else.
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


def locate(rows: Iterable[Mapping], places: Mapping[str, Place] | None = None) -> list[dict]:
    """Rows of ``Session.layers`` with their ``block`` (None outside the blocks) and ``role``.

    A row has them already, or its name is a node's. A row with a name of the runtime's own has the role of its
    operator, else that of the row before it: rows are in the order of execution.

    Args:
        rows: of ``Session.layers``.
        places: name of a node -> its place, for names that ``workbench.places`` does not know.
    """
    before, located = Place(None, "other"), []
    for row in rows:
        before = _place(row, places or {}) or Place(before.block, BY_OPERATOR.get(row.get("type", ""), before.role))
        located.append({**row, "block": before.block, "role": before.role})
    return located


def _place(row: Mapping, places: Mapping[str, Place]) -> Place | None:
    if row.get("role", "unnamed") != "unnamed":
        return Place(row.get("block"), row["role"])
    name = row["name"]
    return places.get(name) or places.get(node_of(name)) or place_of(name)


#: ONNX Runtime names what it fused after one of its parts: ``fc1/MatMulAddFusion``, ``patches:out_nchwc``.
_FUSED = re.compile(r"(?:/\w*Fusion/?|_\w*Fusion|:\w+|_nchwc)$")


def node_of(layer: str) -> str:
    """The name of the node that ONNX Runtime made a layer of this name from."""
    return _FUSED.sub("", layer)
