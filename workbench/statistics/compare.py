"""Is one engine faster or more accurate than another, or can the samples not tell?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from ..backends.hardware.load import BUSY
from ..errors import refuse_unless
from ..measuring.timing import STEADY
from ..records import Measurement
from .intervals import (
    CONFIDENCE,
    STRETCHES,
    Z,
    discordant_pairs,
    middle,
    paired_interval,
    signed_rank_interval,
    stretch_medians,
)
from .plausible import forbidden_ratio
from .sample_size import images_to_tell_apart, sample_to_decide
from .verdict import CANNOT_TELL, Interval, side_of

NOT_MEASURED = "not measured"
#: The entry "interleaved" of the environment in ledgers that were written before November 2026.
OLD_INTERLEAVED = "turns"
#: Where a machine's speed wanders as a random walk does, the levels of two successive runs differ with twice the
#: variance of stretches about the level of their own run (2/3 against 2 · 1/6 of the walk's variance over one run).
WANDERING = math.sqrt(2)
#: Nothing is concluded from fewer calls, rounds or openings: five of five on one side still happen by chance in 6 %
#: of cases.
FEWEST_CALLS = 6
#: Standard deviation of the logarithm of the ratio of two openings of one engine, where they are too few to show
#: it: about what made 32 % of pairs that were opened once differ beyond the scatter of their rounds (November 2026,
#: 12 processes on two cores each of a quiet AMD EPYC, ONNX Runtime, the tutorial's model at batch 1, 4 s).
OPENING_SCATTER = 0.012
#: More rounds or openings are averaged in groups, whose number stays below this.
MOST_RATIOS = 2000


#: What is known of a speed that cannot be.
QUESTIONABLE: dict = {
    "speed": CANNOT_TELL,
    "speedup": math.nan,
    "speedup_interval": (0.0, math.inf),
    "calls_needed": None,
    "seconds_needed": None,
}


@dataclass(frozen=True)
class Comparison:
    """A measurement compared with another; intervals have 95 % confidence.

    Attributes:
        speed: ``faster``, ``slower``, ``cannot tell``, or ``not measured``.
        speedup: median latency of the other over that of this one; NaN where no arithmetic allows it, and a note
            says so (see ``plausible``).
        speedup_interval: what the true ratio may be.
        calls: how many calls of each were timed, and ``interleaved`` whether in the same rounds.
        calls_needed: about how many timed calls of each would decide with 80 % power; None where it is decided, or
            where only interleaved runs can decide.
        seconds_needed: the seconds of timed calls of each that these take.
        accuracy: ``better``, ``worse``, ``cannot tell``, or ``not measured``.
        top1_difference: top-1 of this one minus that of the other, 0...1.
        top1_interval: what the true difference may be.
        images: on how many images both were evaluated.
        images_needed: images that would decide with 80 % power if the difference and the share of images on which
            the two disagree stay as they are; None where it is decided or no difference was seen.
        notes: what limits the comparison.
    """

    speed: str
    speedup: float
    speedup_interval: tuple[float, float]
    calls: tuple[int, int]
    interleaved: bool
    calls_needed: int | None
    seconds_needed: float | None
    accuracy: str
    top1_difference: float
    top1_interval: tuple[float, float]
    images: int
    images_needed: int | None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join((_speed_sentence(self), _accuracy_sentence(self), *self.notes))


def compare(a: Measurement, b: Measurement) -> Comparison:
    """Compare the speed and the accuracy of ``a`` with those of ``b``.

    Speed rests on the ratio of median latencies. Interleaved runs (``measure_interleaved``) are compared round by
    round, and the rounds of one opening of the sessions are one sample: two openings of one engine differ, because
    their memory lies in other places. The order of opening and that within a round are random, so that of two equal
    engines either is as likely to be the faster one, however busy the machine is; Wilcoxon's signed ranks then hold
    their 95 %. With fewer than 6 openings (slow to open, or a record of an earlier version) the samples are the
    rounds, and their interval is widened by ``OPENING_SCATTER``.

    Between runs that were not interleaved the machine may have changed as much as within them. Their interval is
    therefore the scatter of stretches of calls, widened by the 2 % of the steady state; more calls do not narrow
    it, interleaving does.

    Accuracy rests on the images that only one of the two classifies correctly: Tango's score interval for the
    difference of paired shares (1998, Statistics in Medicine 17:891-908). It leaves out zero exactly when McNemar's
    test rejects equality (1947, Psychometrika 12:153-157).

    Args:
        a: the candidate.
        b: what it is compared with.

    Raises:
        WorkbenchError: batch or streams differ, or the accuracies were taken on different images.
    """
    refuse_unless(
        (a.batch, a.streams) == (b.batch, b.streams),
        "These measurements cannot be compared",
        why=f"one has batch {a.batch} and {a.streams} streams, the other {b.batch} and {b.streams}",
        remedy="measure both at the same batch and number of streams",
    )
    asked = forbidden_ratio(a, b)
    speed: dict = _compare_speed(a, b) | (QUESTIONABLE if asked else {})
    notes = (f"Questioned: {asked}.",) if asked else ()
    return Comparison(**speed, **_compare_accuracy(a, b), notes=(*notes, *_notes(a, b)))


# ---- speed -----------------------------------------------------------------------------------------------------


def _compare_speed(a: Measurement, b: Measurement) -> dict:
    calls, together = (len(a.latencies_s), len(b.latencies_s)), were_interleaved(a, b)
    if min(calls) == 0:
        verdict, speedup, interval, needed = NOT_MEASURED, math.nan, (math.nan, math.nan), None
    elif min(calls) < FEWEST_CALLS:
        verdict, speedup, interval, needed = CANNOT_TELL, b.p50_ms / a.p50_ms, (0.0, math.inf), FEWEST_CALLS
    else:
        speedup, interval, needed = _interleaved_ratio(a, b) if together else _separate_ratio(a, b)
        verdict = side_of(interval, 1.0, "faster", "slower")
        needed = needed if verdict == CANNOT_TELL else None
    seconds = needed * max(map(_mean_latency, (a, b))) if needed else None
    return {
        "speed": verdict,
        "speedup": speedup,
        "speedup_interval": interval,
        "calls": calls,
        "interleaved": together,
        "calls_needed": needed,
        "seconds_needed": seconds,
    }


def _mean_latency(measurement: Measurement) -> float:
    return float(np.mean(measurement.latencies_s))


def _interleaved_ratio(a: Measurement, b: Measurement) -> tuple[float, Interval, int | None]:
    """Ratio of latencies, opening by opening or else round by round, and the calls to decide."""
    openings = _ratios_of_rounds(a, b)
    enough = len(openings) >= FEWEST_CALLS
    ratios = _grouped([middle(rounds) for rounds in openings] if enough else list(itertools.chain(*openings)))
    if len(ratios) < FEWEST_CALLS:
        return math.exp(float(np.median(ratios))) if len(ratios) else b.p50_ms / a.p50_ms, (0.0, math.inf), None
    unseen = 0.0 if enough else Z * OPENING_SCATTER / math.sqrt(len(openings))
    centre, (low, high) = signed_rank_interval(ratios)
    low, high = centre - math.hypot(centre - low, unseen), centre + math.hypot(high - centre, unseen)
    reach = max(centre - low, high - centre)
    needed = sample_to_decide(centre, (centre - reach, centre + reach), 0.0, _fewer_calls(a, b))
    return math.exp(centre), (math.exp(low), math.exp(high)), needed


def _ratios_of_rounds(a: Measurement, b: Measurement) -> list[np.ndarray]:
    """Logarithms of the ratios of median latencies, b over a, in the rounds that both took part in, by opening.

    Where one was called more often in a round, only as many of its calls count: times have a long tail to the
    right, so that the medians of one call scatter about another middle than those of many.

    Measurements of November 2026 and before hold no rounds: they are cut into stretches, which took place together.
    """
    if not (a.rounds and b.rounds):
        log_a, log_b = _log_medians(a, b)
        return [log_b - log_a]
    rounds_a, rounds_b = _rounds_of(a), _rounds_of(b)
    ratios: dict[int, list[float]] = {}
    for key in sorted(rounds_a.keys() & rounds_b.keys()):
        calls = min(len(rounds_a[key]), len(rounds_b[key]))
        ratio = math.log(median(rounds_b[key][:calls]) / median(rounds_a[key][:calls]))
        ratios.setdefault(key[0], []).append(ratio)
    return [np.array(of_one) for of_one in ratios.values()]


def _rounds_of(measurement: Measurement) -> dict[tuple[int, int], list[float]]:
    """The seconds of the calls in each round, by the numbers of opening and round."""
    rounds: dict[tuple[int, int], list[float]] = {}
    openings = measurement.openings or itertools.repeat(0)
    for opening, number, seconds in zip(openings, measurement.rounds, measurement.latencies_s):
        rounds.setdefault((opening, number), []).append(seconds)
    return rounds


def _grouped(ratios: Sequence[float]) -> np.ndarray:
    """The ratios, or the means of groups of successive ones where they are too many for the signed ranks."""
    if len(ratios) <= MOST_RATIOS:
        return np.array(ratios)
    return np.array([group.mean() for group in np.array_split(np.array(ratios), MOST_RATIOS)])


def _separate_ratio(a: Measurement, b: Measurement) -> tuple[float, Interval, None]:
    """Ratio of median latencies; its interval is the scatter of every stretch against every other one."""
    log_a, log_b = _log_medians(a, b)
    middle, ratios = math.log(b.p50_ms / a.p50_ms), log_b[:, None] - log_a
    low, high = np.quantile(ratios, (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2))
    low = middle - WANDERING * (middle - low) - math.log1p(STEADY)
    high = middle + WANDERING * (high - middle) + math.log1p(STEADY)
    return math.exp(middle), (math.exp(low), math.exp(high)), None


def _log_medians(a: Measurement, b: Measurement) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the medians of stretches, of as many stretches for both."""
    stretches = min(_fewer_calls(a, b), STRETCHES)
    log_a, log_b = (np.log(stretch_medians(m.latencies_s, stretches)) for m in (a, b))
    return log_a, log_b


def _fewer_calls(a: Measurement, b: Measurement) -> int:
    return min(len(a.latencies_s), len(b.latencies_s))


def were_interleaved(a: Measurement, b: Measurement) -> bool:
    """Whether the calls of both were timed in the same interleaved rounds."""
    ours, theirs = (m.environment.get("interleaved") or m.environment.get(OLD_INTERLEAVED) for m in (a, b))
    return bool(ours) and ours == theirs


# ---- accuracy --------------------------------------------------------------------------------------------------


def _compare_accuracy(a: Measurement, b: Measurement) -> dict:
    if not a.labels or not b.labels:
        verdict, difference, interval, images, needed = NOT_MEASURED, math.nan, (math.nan, math.nan), 0, None
    else:
        _check_same_images(a, b)
        labels, images = np.asarray(a.labels), a.images
        only_a, only_b = discordant_pairs(np.asarray(a.predictions) == labels, np.asarray(b.predictions) == labels)
        difference, interval = (only_a - only_b) / images, paired_interval(only_a, only_b, images)
        verdict = side_of(interval, 0.0, "better", "worse")
        needed = images_to_tell_apart(only_a, only_b, images) if verdict == CANNOT_TELL else None
    return {
        "accuracy": verdict,
        "top1_difference": difference,
        "top1_interval": interval,
        "images": images,
        "images_needed": needed,
    }


def _check_same_images(a: Measurement, b: Measurement) -> None:
    refuse_unless(
        a.labels == b.labels and a.dataset == b.dataset,
        "These accuracies cannot be compared",
        why=f"they were taken on different images: {a.dataset or 'unnamed'} ({a.images}), "
        f"{b.dataset or 'unnamed'} ({b.images})",
        remedy="measure both on the same images in the same order",
    )


# ---- sentences -------------------------------------------------------------------------------------------------


def _notes(a: Measurement, b: Measurement) -> tuple[str, ...]:
    found = [f"{m.recipe.label} on {m.backend} was {m.execution}" for m in (a, b) if m.execution != "executed"]
    if a.environment.get("cpu") != b.environment.get("cpu"):
        found.append("the two were measured on different machines")
    found += dict.fromkeys(note for m in (a, b) for note in m.notes if note.startswith(BUSY))
    return tuple(found)


def _speed_sentence(c: Comparison) -> str:
    if c.speed == NOT_MEASURED:
        return "Speed: not measured."
    low, high = c.speedup_interval
    calls = " and ".join(f"{n:,}" for n in c.calls)
    if math.isnan(c.speedup):
        return f"Speed: {c.speed} ({calls} calls)."
    sentence = f"Speed: {c.speed}, {c.speedup:.2f} × ({CONFIDENCE:.0%} {low:.2f} to {high:.2f}; {calls} calls)."
    if c.speed != CANNOT_TELL:
        return sentence
    if c.calls_needed and c.seconds_needed:
        return f"{sentence} About {c.calls_needed:,} calls of each ({c.seconds_needed:,.0f} s) would decide."
    return sentence if c.interleaved else f"{sentence} Interleaved runs may tell (measure_interleaved)."


def _accuracy_sentence(c: Comparison) -> str:
    if c.accuracy == NOT_MEASURED:
        return "Top-1: not measured."
    low, high = c.top1_interval
    sentence = (
        f"Top-1: {c.accuracy}, {100 * c.top1_difference:+.2f} points "
        f"({CONFIDENCE:.0%} {100 * low:+.2f} to {100 * high:+.2f}; {c.images:,} images)."
    )
    if c.accuracy == CANNOT_TELL and c.images_needed:
        sentence += f" About {c.images_needed:,} images would decide."
    return sentence
