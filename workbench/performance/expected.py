"""How fast a model can be on a card that is not at hand: the limit of physics, and the range that engines reach.

Two bounds are computed from a card's published peaks. The *limit* moves weights, images and logits once and runs
every product at the peak: nothing can be faster, unless its weights stay in a cache. The *unfused time* lets every
part of the model read its inputs from memory and write its outputs, each part at the speed of the roofline.
Measured engines lie between the two in what they move and below both in speed; ``EVIDENCE`` says how far below, and
the likely range is what it shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..backends.hardware.peaks import Peak, peak_of
from ..models.sizes import model_spec
from ..records import ModelSpec
from .cost import WIDTHS, Cost, cost
from .roofline import Roof

#: The roles whose products a recipe with its default scope computes in 8 bits.
QUANTIZED = ("qkv", "proj", "fc1", "fc2")
EIGHT_BITS = ("int8", "fp8")


class Evidence(NamedTuple):
    """A throughput that was really measured, in images per second."""

    card: str
    model: str
    batch: int
    precision: str
    images_per_second: float
    source: str


_H200 = "this project on an H200, November 2026"
_TRT86, _TORCH, _JAX = f"TensorRT 8.6, {_H200}", f"torch.compile, {_H200}", f"JAX, {_H200}"
_NVIDIA = "NVIDIA's published TensorRT figures"
EVIDENCE = (
    Evidence("H200", "B/32", 32, "fp32", 14158, _TRT86),
    Evidence("H200", "L/16", 32, "fp32", 1485, _TRT86),
    Evidence("H200", "B/32", 32, "fp16", 23182, _TRT86),
    Evidence("H200", "L/16", 32, "fp16", 2774, _TRT86),
    Evidence("H200", "B/32", 128, "fp16", 31052, _TORCH),
    Evidence("H200", "L/16", 128, "fp16", 3569, _TORCH),
    Evidence("H200", "B/32", 128, "bf16", 27692, _JAX),
    Evidence("H200", "L/16", 128, "bf16", 2681, _JAX),
    Evidence("T4", "L/16", 32, "fp16", 186, _NVIDIA),
    Evidence("H200", "B/32", 32, "int8", 20846, _TRT86),
    Evidence("T4", "L/16", 32, "int8", 316, _NVIDIA),
)
#: Bytes of the largest second-level cache of a card in the table of peaks, the RTX 5090's.
LARGEST_CACHE = 96 << 20
#: The batches that the evidence covers.
FEWEST_IMAGES = min(row.batch for row in EVIDENCE)
#: The article that this project starts from: ViT-B/32 on a T4 at batch 32, in images per second.
ARTICLE = {"fp32": 12.3, "fp16": 30.8, "int8": 49.2}


@dataclass(frozen=True)
class Expectation:
    """An estimate, not a measurement: how fast one model can be on one card.

    Attributes:
        limit_s: no call that reads its weights from memory can be faster than this.
        bound: what sets the limit, ``arithmetic`` or ``memory``.
        likely_s: shortest and longest call that the evidence makes likely.
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
        """The throughput that physics allows."""
        return self.batch / self.limit_s

    @property
    def likely_images_per_second(self) -> tuple[float, float]:
        """The throughput that is likely, lowest first."""
        return self.batch / self.likely_s[1], self.batch / self.likely_s[0]

    def share_of_limit(self, images_per_second: float) -> float:
        """What share of the limit a throughput is, 0...1; above 1 it is no throughput of this model."""
        return images_per_second / self.limit_images_per_second

    def __str__(self) -> str:
        low, high = self.likely_images_per_second
        first = (
            f"Estimate: {self.model} in {self.precision} on {self.card}, batch {self.batch}: at most "
            f"{self.limit_images_per_second:,.0f} img/s, limited by {self.bound}; likely {low:,.0f} to {high:,.0f}."
        )
        return "\n".join((first, *self.notes))


def expected(spec: ModelSpec, card: str, precision: str = "fp16", batch: int = 32) -> Expectation:
    """Estimate the speed of a model on a card from the card's published peaks.

    Args:
        spec: the model's shape.
        card: a card of ``backends.peaks.PEAKS``, such as ``T4`` or what nvidia-smi prints.
        precision: fp32, fp16, bf16, int8 or fp8; the last two in the linear layers, the rest in fp16.
        batch: images per call.

    Raises:
        WorkbenchError: no peaks are listed for the card, or none for this type on it.
    """
    peak, counted = peak_of(card), cost(spec, batch, precision)
    arithmetic_s, memory_s = _least_arithmetic(counted, peak), _least_memory(counted, peak)
    unfused_s = _unfused(counted, peak)
    low, high = _shares(precision)
    limit_s = max(arithmetic_s, memory_s)
    return Expectation(
        model=spec.name,
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


def _rate(peak: Peak, precision: str, role: str) -> float:
    """FLOP/s of the products of a role: beside 8-bit linear layers, the rest computes in fp16."""
    return peak.of("fp16" if precision in EIGHT_BITS and role not in QUANTIZED else precision)


def _least_arithmetic(counted: Cost, peak: Peak) -> float:
    """Seconds of all products at the peak."""
    return sum(2 * part.macs / _rate(peak, counted.precision, part.role) for part in counted.parts)


def _least_memory(counted: Cost, peak: Peak) -> float:
    """Seconds to read weights and images, one byte per channel of a pixel, and to write the logits."""
    spec, rest = counted.spec, WIDTHS[counted.precision].rest
    images = counted.batch * (3 * spec.image_size**2 + spec.classes * rest)
    return (_weight_bytes(counted) + images) / peak.bandwidth


def _weight_bytes(counted: Cost) -> int:
    widths = WIDTHS[counted.precision]
    return sum(p.parameters * (widths.weight if p.role in QUANTIZED else widths.rest) for p in counted.parts)


def _cached(counted: Cost, arithmetic_s: float, memory_s: float) -> tuple[str, ...]:
    """A note where the limit is memory's and weights this small may not be read from memory at every call."""
    if memory_s <= arithmetic_s or _weight_bytes(counted) > LARGEST_CACHE:
        return ()
    alone = counted.batch / arithmetic_s
    return (
        f"Where its weights stay in the card's cache between calls, arithmetic alone allows {alone:,.0f} img/s.",
    )


def _unfused(counted: Cost, peak: Peak) -> float:
    """Seconds where every part goes through memory, each at the speed of the roofline."""
    return sum(
        max(
            2 * part.macs / _rate(peak, counted.precision, part.role),
            (part.bytes_read + part.bytes_written) / peak.bandwidth,
        )
        for part in counted.parts
    )


def _shares(precision: str) -> tuple[float, float]:
    """The lowest and highest speed in the evidence, as a share of the unfused roofline's."""
    kinds = (("fp32",), ("fp16", "bf16"), EIGHT_BITS)
    kind = next(kind for kind in kinds if precision in kind)
    shares = [_share(row) for row in EVIDENCE if row.precision in kind]
    return min(shares), max(shares)


def _share(row: Evidence) -> float:
    unfused_s = _unfused(cost(model_spec(row.model), row.batch, row.precision), peak_of(row.card))
    return unfused_s * row.images_per_second / row.batch


def _notes(precision: str, batch: int) -> tuple[str, ...]:
    cards = " and ".join(sorted({row.card for row in EVIDENCE}))
    found = [f"The likely range rests on {len(EVIDENCE)} measured throughputs on {cards}."]
    if batch < FEWEST_IMAGES:
        found.append(
            f"None is below batch {FEWEST_IMAGES}: small batches leave a GPU idle and are slower than this."
        )
    if precision == "fp8":
        found.append("None is in fp8: the range is that of int8.")
    return tuple(found)
