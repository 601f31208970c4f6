"""Where an engine's time goes: its layers summed up as attention, MLP and rest, beside the whole call."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from ..backends.base import Session
from ..errors import WorkbenchError
from ..measuring.timing import Feeds
from ..places import Place, place_of

#: Role -> the part of a ViT that it belongs to; every other role is ``rest``. qkv and proj are attention's, as in
#: ``models.cost.attention_overtakes_mlp``.
PART_OF = {
    **dict.fromkeys(("qkv", "split", "scores", "softmax", "proj"), "attention"),
    **dict.fromkeys(("fc1", "gelu", "fc2"), "mlp"),
}
PARTS = ("attention", "mlp", "rest")
#: Operators of ONNX Runtime that carry no node's name, and the role in which a ViT has them.
BY_OPERATOR = {
    **dict.fromkeys(("Gelu", "FastGelu", "BiasGelu", "QuickGelu"), "gelu"),
    "SkipLayerNormalization": "residual",  # and the norm behind it
    **dict.fromkeys(("FusedMatMul", "Softmax", "MultiHeadAttention", "Attention"), "scores"),
}
#: Parts whose sum misses the whole by more than this share are not the whole story.
AGREES = 0.05


@dataclass(frozen=True)
class Split:
    """Seconds of one call by part, beside the whole call that was timed on its own.

    ``seconds`` has the keys of ``PARTS``.
    """

    seconds: Mapping[str, float]
    whole_s: float

    @property
    def difference_s(self) -> float:
        """The whole call minus the sum of its parts: time between layers, or the cost of measuring them."""
        return self.whole_s - sum(self.seconds.values())

    @property
    def adds_up(self) -> bool:
        """Whether the parts make up the whole within 5 %."""
        return abs(self.difference_s) <= AGREES * self.whole_s

    def rows(self) -> list[dict]:
        """A row per part, then the difference and the whole: ``part``, ``ms``, ``share`` of the whole."""
        every = {**self.seconds, "difference": self.difference_s, "whole": self.whole_s}
        return [{"part": part, "ms": 1e3 * s, "share": s / self.whole_s} for part, s in every.items()]


def part_of(role: str) -> str:
    """``attention``, ``mlp`` or ``rest`` for the role of a node; a layer of several roles counts for the first."""
    return PART_OF.get(role.split(" ")[0], "rest")


def split_layers(layers: Iterable[Mapping], whole_s: float) -> Split:
    """Sum up rows of ``Session.layers`` beside the seconds of a whole call."""
    seconds = dict.fromkeys(PARTS, 0.0)
    for layer in locate(layers):
        seconds[part_of(layer["role"])] += layer["seconds"]
    return Split(seconds, whole_s)


def locate(layers: Iterable[Mapping], places: Mapping[str, Place] | None = None) -> list[dict]:
    """Rows of ``Session.layers`` with their ``block`` (None outside the blocks) and ``role``.

    A row says them itself, or its name is that of a node. One that a runtime named itself stands where its operator
    has its role, else where the layer before it does: rows come in the order of execution.

    Args:
        layers: the rows.
        places: where nodes stand that are not named by ``workbench.places``; from ``graphs.anatomy``.
    """
    before, rows = Place(None, "other"), []
    for layer in layers:
        before = _place(layer, places or {}) or Place(
            before.block, BY_OPERATOR.get(layer.get("type", ""), before.role)
        )
        rows.append({**layer, "block": before.block, "role": before.role})
    return rows


#: ONNX Runtime names what it made by fusion after one of its parts: ``fc1/MatMulAddFusion``, ``patches:out_nchwc``.
_FUSED = re.compile(r"(?:/\w*Fusion/?|_\w*Fusion|:\w+|_nchwc)$")


def _place(layer: Mapping, places: Mapping[str, Place]) -> Place | None:
    if layer.get("role", "unnamed") != "unnamed":
        return Place(layer.get("block"), layer["role"])
    name = layer["name"]
    return places.get(name) or places.get(node_of(name)) or place_of(name)


def node_of(layer: str) -> str:
    """The name of the node that ONNX Runtime made a layer of this name from."""
    return _FUSED.sub("", layer)


def split(session: Session, feeds: Feeds, repeats: int = 10) -> Split:
    """Time a call and its layers.

    Args:
        session: of a runtime that times its layers.
        feeds: one batch.
        repeats: calls before and after the layers are timed; the lower of both medians is the whole.

    Raises:
        WorkbenchError: the runtime tells nothing about its layers.
    """
    session.time(feeds, 2)
    before_s = median(session.device_time(feeds, repeats) or session.time(feeds, repeats))
    layers = session.layers(feeds)
    if layers is None:
        raise WorkbenchError(
            "The time of the layers is not known",
            why=f"a {type(session).__name__} does not tell it",
            remedy="use an engine of onnxruntime or tensorrt; models.profiling times the parts of the JAX model",
        )
    after_s = median(session.device_time(feeds, repeats) or session.time(feeds, repeats))
    return split_layers(layers, min(before_s, after_s))  # a machine's slow moment is in one of them only
