"""The measurement of an engine: raw observations, and the statistics that are computed from them on reading."""

from __future__ import annotations

import math
import statistics
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import one_of, refuse_unless
from .checks import positive
from .recipes import Recipe
from .throughput import Window
from .values import check_fields

EXECUTIONS = ("executed", "emulated", "built")
#: What a reader of a measurement of an earlier version must know.
DERIVED_THROUGHPUT = (
    "images/s was derived from latencies by an earlier version: these leave out the copy of the images into pinned"
    " memory, so that several streams on a GPU are overstated 2 to 4 times; measure again"
)


@dataclass(frozen=True)
class Measurement:
    """Raw observations of one engine at one batch size. Statistics are properties, computed when they are read.

    Attributes:
        batch: images in one call.
        variant: the digest of the measured variant.
        latencies_s: seconds of every timed call, in the order of the calls.
        rounds: the number of the round in which each call was timed, where several engines took turns; else empty.
        openings: the number of the opening of the session in which each call was timed, where there are rounds;
            empty in records of earlier versions, which opened a session once. Sessions with the same number were
            open together.
        device_s: seconds of compute alone, without copies, where the runtime measures them.
        end_to_end: calls from the caller's array to the logits in the caller's memory, as they were completed.
        compute: calls with the images already on the device; the same window as ``end_to_end`` where the runtime
            computes in the caller's memory.
        predictions: the top class of every image.
        labels: the true class of every image; empty where it is not known.
        reference_predictions: the reference's top class of every image.
        top5_hits: images whose label is among the five highest logits.
        reference: what ``reference_predictions`` come from: ``fp32 on onnxruntime``.
        memory_bytes: peak memory of the session, weights included.
        execution: ``executed`` in the recipe's types, ``emulated`` in other types, or only ``built``.
        attention_fused: in how many blocks one kernel computes attention, and in which type: ``12 of 12, fp16``;
            empty where the build does not list its layers.
    """

    backend: str
    model: str
    recipe: Recipe
    batch: int
    variant: str
    latencies_s: tuple[float, ...]
    warmup_calls: int = 0
    device_s: tuple[float, ...] = ()
    end_to_end: Window | None = None
    compute: Window | None = None
    predictions: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()
    reference_predictions: tuple[int, ...] = ()
    top5_hits: int = 0
    reference: str = ""
    dataset: str = ""
    card: str | None = None
    streams: int = 1
    memory_bytes: int = 0
    engine_bytes: int = 0
    build_seconds: float = 0.0
    execution: str = "executed"
    attention_fused: str = ""
    environment: Mapping[str, typing.Any] = field(default_factory=dict)
    run_id: str = ""
    notes: tuple[str, ...] = ()
    rounds: tuple[int, ...] = ()
    openings: tuple[int, ...] = ()

    def __post_init__(self):
        one_of("execution", self.execution, EXECUTIONS)
        positive(self, "batch", "streams")
        check_fields(self)
        counts = [len(self.predictions), len(self.labels), len(self.reference_predictions)]
        refuse_unless(
            len({count for count in counts if count}) <= 1,
            "A measurement has one prediction, one label and one prediction of the reference for each image",
            why="it has {} predictions, {} labels and {} predictions of the reference".format(*counts),
            remedy="measure again; leave out what is not known",
        )
        refuse_unless(
            0 <= self.top5_hits <= max(counts) and min((0.0, *self.latencies_s, *self.device_s)) >= 0,
            "A measurement counts and times nothing below zero",
            why=f"top5_hits is {self.top5_hits} of {max(counts)} images, the shortest call "
            f"{min((*self.latencies_s, *self.device_s), default=0)} s",
            remedy="measure again",
        )

    def percentile_ms(self, percent: float) -> float:
        """A percentile of the call latency in milliseconds (linear interpolation); NaN without timed calls."""
        return 1e3 * quantile(self.latencies_s, percent / 100)

    @property
    def p50_ms(self) -> float:
        """Median latency of a call, ms."""
        return self.percentile_ms(50)

    @property
    def p90_ms(self) -> float:
        """90th percentile of the latency of a call, ms."""
        return self.percentile_ms(90)

    @property
    def p99_ms(self) -> float:
        """99th percentile of the latency of a call, ms."""
        return self.percentile_ms(99)

    @property
    def images_per_second(self) -> float:
        """Throughput end to end: images completed over the wall clock; NaN without timed calls.

        A record of an earlier version has no counts. Its figure was derived from latencies, and ``caveat`` says so.
        """
        if self.end_to_end is not None:
            return self.batch * self.end_to_end.calls_per_second
        if not self.latencies_s:
            return math.nan
        middle = statistics.fmean if self.streams > 1 else statistics.median
        return self.batch * self.streams / middle(self.latencies_s)

    @property
    def compute_images_per_second(self) -> float:
        """Throughput with the images already on the device, counted; NaN where it was not counted."""
        return math.nan if self.compute is None else self.batch * self.compute.calls_per_second

    @property
    def joules_per_image(self) -> float:
        """Energy of an image, end to end, with what the package or card uses idle; NaN where it cannot be read."""
        window = self.end_to_end
        if window is None or window.joules is None:
            return math.nan
        return window.joules / (self.batch * sum(window.calls))

    @property
    def caveat(self) -> str:
        """What a reader of the stored figures must know; empty where every figure was counted."""
        return DERIVED_THROUGHPUT if self.latencies_s and self.end_to_end is None else ""

    @property
    def images(self) -> int:
        """How many images the accuracy was computed from."""
        return len(self.predictions)

    @property
    def top1_hits(self) -> int:
        """Images whose top class is their label."""
        return sum(p == t for p, t in zip(self.predictions, self.labels))

    @property
    def top1(self) -> float:
        """Share of images classified correctly, 0...1; NaN without labels."""
        return _share(self.top1_hits, len(self.labels))

    @property
    def top5(self) -> float:
        """Share of images with the label among the five highest logits, 0...1; NaN without labels."""
        return _share(self.top5_hits, len(self.labels))

    @property
    def agreement(self) -> float:
        """Share of images on which engine and reference choose the same class, 0...1."""
        same = sum(p == r for p, r in zip(self.predictions, self.reference_predictions))
        return _share(same, len(self.reference_predictions))

    @property
    def reference_top1(self) -> float:
        """The reference's share of images classified correctly, 0...1; NaN without labels."""
        hits = sum(r == t for r, t in zip(self.reference_predictions, self.labels))
        return _share(hits, min(len(self.labels), len(self.reference_predictions)))

    @property
    def top1_interval(self) -> tuple[float, float]:
        """95 % Wilson interval of ``top1``."""
        return wilson(self.top1_hits, len(self.labels))

    @property
    def top5_interval(self) -> tuple[float, float]:
        """95 % Wilson interval of ``top5``."""
        return wilson(self.top5_hits, len(self.labels))


def _share(hits: int, total: int) -> float:
    return hits / total if total else math.nan


def wilson(hits: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a share (Wilson, 1927, JASA 22:209-212).

    Returns:
        Lower and upper bound, each 0...1; (0, 1) when nothing was counted.
    """
    if not total:
        return 0.0, 1.0
    z = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
    share, weight = hits / total, z * z / total
    centre = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) * weight + weight * weight / 4) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


def quantile(values, share: float) -> float:
    """The value below which ``share`` of the sample lies (linear interpolation); NaN for no sample."""
    if not values:
        return math.nan
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
