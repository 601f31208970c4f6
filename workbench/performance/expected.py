"""How fast a model can be on a card that is not at hand: its limit, and a likely range.

Two times are computed from a card's published peaks. The *limit* moves weights, images and logits once and runs
every product at the peak: no call can be faster, unless its weights stay in a cache. In the *unfused time* every
part of the model reads its inputs from memory and writes its outputs, each part at the speed of the roofline. An
engine reaches a share of that unfused speed, of more than 1 where a large cache keeps what one part writes and the
next one reads. The likely range goes from the lowest to the highest share among the measured throughputs in
``evidence.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..backends.hardware.peaks import Peak, peak_of
from ..errors import WorkbenchError
from ..models.sizes import model_spec
from ..records import PRECISIONS, Graph, ModelSpec
from .cost import LINEAR_ROLES, Cost, Part, cost, low_bytes, memory_bytes
from .roofline import Roof


class Evidence(NamedTuple):
    """A measured throughput, in images per second."""

    card: str
    model: str
    batch: int
    precision: str
    images_per_second: float
    source: str


_FILE = json.loads(Path(__file__).with_name("evidence.json").read_text(encoding="utf-8"))
#: The throughputs that the likely range rests on.
EVIDENCE = tuple(Evidence(**row) for row in _FILE["evidence"])
#: The article that this project starts from: precision -> images per second of ViT-B/32 on a T4 at batch 32.
ARTICLE: dict[str, float] = _FILE["article"]["images_per_second"]
#: Precisions with the same share of the unfused speed.
ALIKE = (("fp32",), ("fp16", "bf16", "w8", "w4", "wfp4"), ("int8", "fp8"), ("mxfp8", "nvfp4"))
#: Bytes of the largest second-level cache of a card in the table of peaks, the RTX PRO 6000's.
LARGEST_CACHE = 128 << 20
#: The smallest batch in the evidence.
FEWEST_IMAGES = min(row.batch for row in EVIDENCE)


@dataclass(frozen=True)
class Expectation:
    """An estimate, not a measurement: how fast one model can be on one card.

    Attributes:
        model: its name.
        card: its name.
        precision: of the estimated engine.
        batch: images per call.
        limit_s: no call that reads its weights from memory can be faster than this.
        bound: what sets the limit, ``arithmetic`` or ``memory``.
        likely_s: shortest and longest call that the evidence makes likely.
        source: of the card's peaks.
        notes: what the estimate does not rest on.
    """

    model: str
    card: str
    precision: str
    batch: int
    limit_s: float
    bound: str
    likely_s: tuple[float, float]
    source: str
    notes: tuple[str, ...] = ()

    @property
    def limit_images_per_second(self) -> float:
        """The highest possible throughput."""
        return self.batch / self.limit_s

    @property
    def likely_images_per_second(self) -> tuple[float, float]:
        """The likely throughput, lowest first."""
        return self.batch / self.likely_s[1], self.batch / self.likely_s[0]

    def share_of_limit(self, images_per_second: float) -> float:
        """A throughput as a share of the limit, 0...1; above 1 it is not a throughput of this model."""
        return images_per_second / self.limit_images_per_second

    def __str__(self) -> str:
        low, high = self.likely_images_per_second
        first = (
            f"Estimate: {self.model} in {self.precision} on {self.card}, batch {self.batch}: at most "
            f"{self.limit_images_per_second:,.0f} img/s, limited by {self.bound}; likely {low:,.0f} to {high:,.0f}."
        )
        return "\n".join((first, *self.notes))


def expected(spec: ModelSpec | Graph, card: str, precision: str = "fp16", batch: int = 32) -> Expectation:
    """Estimate the speed of a model on a card from the card's published peaks.

    Args:
        spec: the model's shape, or a graph.
        card: a card of ``backends.hardware.peaks.PEAKS``, such as ``T4`` or what nvidia-smi prints.
        precision: any but int8-dynamic; eight bits and fewer in the linear layers, everything else in fp16.
        batch: images per call.

    Raises:
        WorkbenchError: no peaks are listed for the card or for this type on it, or GPUs do not run this precision.
    """
    peak, counted = peak_of(card), cost(spec, batch, precision)
    arithmetic_s, memory_s = _least_arithmetic(counted, peak), _least_memory(counted, peak)
    unfused_s = _unfused(counted, peak)
    low, high = likely_shares(precision)
    limit_s = max(arithmetic_s, memory_s)
    return Expectation(
        model=counted.name,
        card=peak.card,
        precision=precision,
        batch=batch,
        limit_s=limit_s,
        bound="arithmetic" if arithmetic_s >= memory_s else "memory",
        likely_s=(max(limit_s, unfused_s / high), unfused_s / low),
        source=peak.source,
        notes=(*_notes(precision, batch), *_cached(counted, arithmetic_s, memory_s)),
    )


def published_roof(card: str, precision: str = "fp16") -> Roof:
    """A card's published limits as a roof to draw.

    Raises:
        WorkbenchError: no peaks are listed for the card, or none for this type on it.
    """
    peak = peak_of(card)
    return Roof(f"{peak.card} {precision}", precision, peak.of(precision), peak.bandwidth, False, peak.source)


# ---- the limit ---------------------------------------------------------------------------------------------------


def _least_arithmetic(counted: Cost, peak: Peak) -> float:
    """Seconds of all products at the peak."""
    return sum(_arithmetic(part, counted.precision, peak) for part in counted.parts)


def _arithmetic(part: Part, precision: str, peak: Peak) -> float:
    """Seconds of one part's products at the peak of the type that they compute in."""
    types = PRECISIONS[precision]
    kind = (types.multiplies_in if part.role in LINEAR_ROLES else None) or types.elsewhere
    return 2 * part.macs / peak.of(kind) if part.macs else 0.0


def _least_memory(counted: Cost, peak: Peak) -> float:
    """Seconds to read weights and images, one byte per channel of a pixel, and to write the logits."""
    logits = counted.batch * counted.classes
    images = counted.batch * 3 * counted.image_size**2
    moved = _weight_bytes(counted) + images + memory_bytes(logits, PRECISIONS[counted.precision].elsewhere)
    return moved / peak.bandwidth


def _weight_bytes(counted: Cost) -> int:
    types = PRECISIONS[counted.precision]
    return sum(
        low_bytes(part.parameters, types.weights if part.role in LINEAR_ROLES else types.elsewhere, types)
        for part in counted.parts
    )


def _cached(counted: Cost, arithmetic_s: float, memory_s: float) -> tuple[str, ...]:
    """A note where memory sets the limit, and the weights are small enough to stay in a cache between calls."""
    if memory_s <= arithmetic_s or _weight_bytes(counted) > LARGEST_CACHE:
        return ()
    alone = counted.batch / arithmetic_s
    return (
        f"Where its weights stay in the card's cache between calls, arithmetic alone allows {alone:,.0f} img/s.",
    )


# ---- the likely range --------------------------------------------------------------------------------------------


def _unfused(counted: Cost, peak: Peak) -> float:
    """Seconds where every part goes through memory, each at the speed of the roofline."""
    return sum(
        max(
            _arithmetic(part, counted.precision, peak),
            (part.bytes_read + part.bytes_written) / peak.bandwidth,
        )
        for part in counted.parts
    )


def likely_shares(precision: str, evidence: Iterable[Evidence] = EVIDENCE) -> tuple[float, float]:
    """The lowest and the highest measured speed, as a share of the unfused speed.

    Args:
        precision: evidence of like precisions counts too.
        evidence: the measured throughputs.

    Raises:
        WorkbenchError: nothing was measured in this or a like precision.
    """
    shares = [share_of_unfused(row) for row in _alike(precision, evidence)]
    return min(shares), max(shares)


def _alike(precision: str, evidence: Iterable[Evidence]) -> list[Evidence]:
    kinds = next((kinds for kinds in ALIKE if precision in kinds), ())
    found = [row for row in evidence if row.precision in kinds]
    if not found:
        raise WorkbenchError(
            f"Nothing is known about the speed of {precision} on a GPU",
            why=f"the measured throughputs are of {', '.join(dict.fromkeys(row.precision for row in evidence))}",
            remedy=f"choose one of {', '.join(kind for kinds in ALIKE for kind in kinds)}",
        )
    return found


def share_of_unfused(row: Evidence) -> float:
    """A measured speed as a share of the speed without fusion."""
    unfused_s = _unfused(cost(model_spec(row.model), row.batch, row.precision), peak_of(row.card))
    return unfused_s * row.images_per_second / row.batch


def _notes(precision: str, batch: int) -> tuple[str, ...]:
    rows = _alike(precision, EVIDENCE)
    kinds, cards = (" and ".join(sorted(names)) for names in ({r.precision for r in rows}, {r.card for r in rows}))
    notes = [f"The likely range rests on {len(rows)} measured throughputs in {kinds} on {cards}."]
    if batch < FEWEST_IMAGES:
        notes.append(
            f"None is below batch {FEWEST_IMAGES}: small batches leave a GPU idle and are slower than this."
        )
    if all(row.precision != precision for row in rows):
        notes.append(f"None is in {precision}: the range is that of {kinds}.")
    return tuple(notes)
