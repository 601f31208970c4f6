"""The time of one call by part of a ViT: attention, MLP and the rest, beside the time of the whole call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from ..backends.base import Session
from ..measuring.timing import Feeds
from .layers import CALLS, locate, time_session

#: Role -> the part of a ViT that it belongs to; every other role is ``rest``. qkv and proj are attention's, as in
#: ``crossover.attention_overtakes_mlp``.
PART_OF = {
    **dict.fromkeys(("qkv", "split", "scores", "softmax", "proj"), "attention"),
    **dict.fromkeys(("fc1", "gelu", "activation", "fc2"), "mlp"),
}
PARTS = ("attention", "mlp", "rest")
#: The parts agree with the whole where their sum differs from it by this share at most.
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
        """The whole call minus the sum of its parts: time between layers, or the cost of timing them."""
        return self.whole_s - sum(self.seconds.values())

    @property
    def adds_up(self) -> bool:
        """Whether the sum of the parts is the whole within 5 %."""
        return abs(self.difference_s) <= AGREES * self.whole_s

    def rows(self) -> list[dict]:
        """A row per part, then the difference and the whole: ``part``, ``ms``, ``share`` of the whole."""
        every = {**self.seconds, "difference": self.difference_s, "whole": self.whole_s}
        return [{"part": part, "ms": 1e3 * s, "share": s / self.whole_s} for part, s in every.items()]


def part_of(role: str) -> str:
    """``attention``, ``mlp`` or ``rest`` for the role of a node; a layer of several roles counts for the first."""
    return PART_OF.get(role.split(" ")[0], "rest")


def split_layers(rows: Iterable[Mapping], whole_s: float) -> Split:
    """Sum up rows of ``Session.layers`` beside the seconds of a whole call."""
    seconds = dict.fromkeys(PARTS, 0.0)
    for row in locate(rows):
        seconds[part_of(row["role"])] += row["seconds"]
    return Split(seconds, whole_s)


def split(session: Session, feeds: Feeds, repeats: int = CALLS) -> Split:
    """Time a call and its layers, and sum the layers up by part.

    Args:
        session: of a runtime that times its layers.
        feeds: one batch.
        repeats: calls before and after the layers are timed; the lower of both medians is the whole.

    Raises:
        WorkbenchError: the runtime does not time its layers.
    """
    rows, calls = time_session(session, feeds, repeats)
    return split_layers(rows, median(calls))
