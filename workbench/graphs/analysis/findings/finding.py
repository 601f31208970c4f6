"""What a finding is, and the same hazard at many places."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import onnx_ir as ir

from ...structure.operators import name_of
from ...structure.placement import PlacedModel

#: ``error``: refused by a runtime, or wrong numbers; ``warning``: slower or less exact; ``note``: good to know.
SEVERITIES = ("error", "warning", "note")
#: A hazard of the model as a whole stands here.
GRAPH = "graph"


class Finding(NamedTuple):
    """One hazard at one place: what it costs, and what mends it."""

    hazard: str
    severity: str
    where: str
    mitigation: str
    help: str
    nodes: tuple[str, ...] = ()


def by_place(placed: PlacedModel, nodes: Iterable[ir.Node], *row: str) -> Iterator[Finding]:
    """The same hazard once for each place that some nodes stand in."""
    places: dict[str, list[str]] = {}
    for node in nodes:
        places.setdefault(placed.where(node), []).append(name_of(node))
    hazard, severity, mitigation, help_ = row
    for where, names in places.items():
        yield Finding(hazard, severity, where, mitigation, help_, tuple(names))
