"""Hazards for compilers and for quantized ViTs: one row per hazard and place, and what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from ....errors import Refusal
from ...structure.operators import name_of
from ...structure.placement import PlacedModel
from .attention import attention_apart, attention_in_float32, off_the_fast_path
from .finding import GRAPH, SEVERITIES, Finding
from .operators import gelu_in_pieces, normalization_in_pieces, shapes_at_run_time
from .quantization import (
    pairs_without_product,
    quantized_on_one_side,
    quantized_where_it_hurts,
    refused_by_tensorrt,
)
from .types import casts, float32_islands, types_the_card_lacks, weights_beyond_fp16

#: Without a card, rules are those of the newest; see ``backends.hardware.cards``.
NEWEST = 120

Detector = Callable[[PlacedModel, int], Iterable[Finding]]
DETECTORS: tuple[Detector, ...] = (
    weights_beyond_fp16,
    types_the_card_lacks,
    float32_islands,
    attention_in_float32,
    attention_apart,
    off_the_fast_path,
    normalization_in_pieces,
    gelu_in_pieces,
    shapes_at_run_time,
    casts,
    quantized_where_it_hurts,
    quantized_on_one_side,
    pairs_without_product,
    refused_by_tensorrt,
)


def find(placed: PlacedModel, sm: int = NEWEST) -> list[Finding]:
    """Every finding that the graph itself shows, errors first.

    Args:
        placed: from ``placement.read``.
        sm: the compute capability to judge attention by, 86 for 8.6.
    """
    return ordered(finding for detector in DETECTORS for finding in detector(placed, sm))


def refused(placed: PlacedModel, by_runtime: Mapping[str, Iterable[Refusal]]) -> Iterator[Finding]:
    """What runtimes themselves refuse, from ``backends.refused_nodes``."""
    named = {name_of(node): node for node in placed.nodes}
    for runtime, rows in by_runtime.items():
        for row in rows:
            where = placed.where(named[row.node]) if row.node in named else row.node or GRAPH
            nodes = (row.node,) if row.node else ()
            yield Finding(f"refused by {runtime}", "error", where, row.remedy, row.reason, nodes)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Findings by severity; inside one, as they were found."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
