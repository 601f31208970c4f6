"""Is one engine faster or more accurate than another, or can the samples not tell?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ..errors import refuse_unless
from ..measuring.timing import STEADY
from ..records import Measurement

CANNOT_TELL = "cannot tell"
#: The name of the environment's entry "interleaved" in ledgers that were written before November 2026.
OLD_INTERLEAVED = "turns"
#: A run is cut into this many stretches, whose medians are resampled: calls next to each other are alike.
STRETCHES = 25
#: Where a machine's speed wanders as a random walk does, the levels of two successive runs differ with twice the
#: variance of stretches about the level of their own run (2/3 against 2 · 1/6 of the walk's variance over one run).
WANDERING = math.sqrt(2)
#: Of fewer calls nothing is concluded: five of five on one side still happen by chance in 6 % of cases.
FEWEST_CALLS = 6
CONFIDENCE, POWER = 0.95, 0.8
_RESAMPLES = 4000


@dataclass(frozen=True)
class Comparison:
    """How one measurement stands against another; intervals have 95 % confidence.

    Attributes:
        speed: ``faster``, ``slower``, ``cannot tell``, or ``not measured``.
        speedup: median latency of the other over that of this one.
        speedup_interval: what the true ratio may be.
        calls: how many calls of each were timed, and ``interleaved`` whether in the same rounds.
        calls_needed: about how many timed calls of each would decide with 80 % power; None where it is decided, or
            where only interleaved runs can decide.
        accuracy: ``better``, ``worse``, ``cannot tell``, or ``not measured``.
        top1_difference: top-1 of this one minus that of the other, 0...1.
        top1_interval: what the true difference may be.
        images: on how many images both were judged.
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
    accuracy: str
    top1_difference: float
    top1_interval: tuple[float, float]
    images: int
    images_needed: int | None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join((_speed_sentence(self), _accuracy_sentence(self), *self.notes))


def compare(a: Measurement, b: Measurement) -> Comparison:
    """Say how ``a`` stands against ``b``.

    Speed rests on the ratio of median latencies. Calls next to each other are alike, so each run is cut into
    stretches, and their medians are resampled (a bootstrap over blocks: Künsch, 1989, Annals of Statistics
    17:1217-1241). Interleaved runs (``measure_interleaved``) are resampled together. Between runs that did not,
    the machine may have changed as much as it did within them, so the scatter of their stretches is the interval,
    widened by the 2 % to which a warm-up settles: more calls cannot tell a smaller difference, turns can.

    Accuracy rests on the images that only one of the two gets right: Tango's score interval for the difference of
    paired shares (1998, Statistics in Medicine 17:891-908), which leaves out zero exactly when McNemar's test
    rejects equality (1947, Psychometrika 12:153-157).

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
    speed, speedup, speedup_interval, calls_needed = _compare_speed(a, b)
    accuracy, difference, interval, images, images_needed = _compare_accuracy(a, b)
    return Comparison(
        speed=speed,
        speedup=speedup,
        speedup_interval=speedup_interval,
        calls=(len(a.latencies_s), len(b.latencies_s)),
        interleaved=were_interleaved(a, b),
        calls_needed=calls_needed,
        accuracy=accuracy,
        top1_difference=difference,
        top1_interval=interval,
        images=images,
        images_needed=images_needed,
        notes=_notes(a, b),
    )


# ---- speed -----------------------------------------------------------------------------------------------------


def _compare_speed(a: Measurement, b: Measurement):
    if not a.latencies_s or not b.latencies_s:
        return "not measured", math.nan, (math.nan, math.nan), None
    calls = min(len(a.latencies_s), len(b.latencies_s))
    if calls < FEWEST_CALLS:
        return CANNOT_TELL, b.p50_ms / a.p50_ms, (0.0, math.inf), FEWEST_CALLS
    shares, stretches = (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2), min(calls, STRETCHES)
    log_a, log_b = _log_medians(a, stretches), _log_medians(b, stretches)
    if were_interleaved(a, b):
        ratios = log_b - log_a  # stretch by stretch, because these were taken beside each other
        middle, (low, high) = float(np.median(ratios)), np.quantile(_bootstrap_medians(ratios), shares)
        needed = _calls_needed(middle, low, high, calls)
    else:
        ratios = log_b[:, None] - log_a  # every stretch with every other
        middle, (low, high), needed = math.log(b.p50_ms / a.p50_ms), np.quantile(ratios, shares), None
        low = middle - WANDERING * (middle - low) - math.log1p(STEADY)
        high = middle + WANDERING * (high - middle) + math.log1p(STEADY)
    interval = math.exp(low), math.exp(high)
    return _verdict(interval, 1.0, "faster", "slower"), math.exp(middle), interval, needed


def were_interleaved(a: Measurement, b: Measurement) -> bool:
    """Whether the calls of both were timed in the same interleaved rounds."""
    ours, theirs = (m.environment.get("interleaved") or m.environment.get(OLD_INTERLEAVED) for m in (a, b))
    return bool(ours) and ours == theirs


def _log_medians(measurement: Measurement, stretches: int) -> np.ndarray:
    """Logarithms of the medians of that many stretches of successive calls."""
    return np.log([np.median(part) for part in np.array_split(np.asarray(measurement.latencies_s), stretches)])


def _bootstrap_medians(values: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.median(values[rng.integers(len(values), size=(_RESAMPLES, len(values)))], axis=1)


def _calls_needed(middle: float, low: float, high: float, calls: int) -> int | None:
    """About how many calls would decide with that power, if the ratio stays and the interval narrows as 1/√n."""
    if low > 0 or high < 0 or middle == 0:
        return None
    z, z_power = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2), NormalDist().inv_cdf(POWER)
    reach = max(middle - low, high - middle) * (z + z_power) / z
    return math.ceil(calls * (reach / middle) ** 2)


# ---- accuracy --------------------------------------------------------------------------------------------------


def _compare_accuracy(a: Measurement, b: Measurement):
    if not a.labels or not b.labels:
        return "not measured", math.nan, (math.nan, math.nan), 0, None
    refuse_unless(
        a.labels == b.labels and a.dataset == b.dataset,
        "These accuracies cannot be compared",
        why=f"they were taken on different images: {a.dataset or 'unnamed'} ({a.images}), "
        f"{b.dataset or 'unnamed'} ({b.images})",
        remedy="measure both on the same images in the same order",
    )
    labels = np.asarray(a.labels)
    a_right, b_right = np.asarray(a.predictions) == labels, np.asarray(b.predictions) == labels
    only_a, only_b, images = int((a_right & ~b_right).sum()), int((b_right & ~a_right).sum()), len(labels)
    interval = paired_interval(only_a, only_b, images)
    verdict = _verdict(interval, 0.0, "better", "worse")
    needed = images_to_decide(only_a, only_b, images) if verdict == CANNOT_TELL else None
    return verdict, (only_a - only_b) / images, interval, images, needed


def paired_interval(only_a: int, only_b: int, images: int) -> tuple[float, float]:
    """Tango's score interval for the difference of two shares measured on the same images.

    Args:
        only_a: images that only the first gets right.
        only_b: images that only the second gets right.
        images: images in all.
    """
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    difference = (only_a - only_b) / images
    low = _bisect(lambda d: _tango(only_a, only_b, images, d) > z, -1.0, difference)
    high = _bisect(lambda d: _tango(only_a, only_b, images, d) >= -z, difference, 1.0)
    return low, high


def _tango(only_a: int, only_b: int, n: int, difference: float) -> float:
    """Standardized distance of the observed difference from a supposed one (Tango, 1998, section 3).

    ``share`` is the most likely share of images that only the second gets right, given the supposed difference.
    """
    half = (2 * n - only_a + only_b) * difference - only_a - only_b
    share = (math.sqrt(half**2 + 8 * n * only_b * difference * (1 - difference)) - half) / (4 * n)
    variance = n * (2 * share + difference * (1 - difference))
    distance = only_a - only_b - n * difference
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)


def _bisect(left_side, low: float, high: float) -> float:
    """Where ``left_side`` turns from true to false."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if left_side(middle) else (low, middle)
    return (low + high) / 2


def images_to_decide(only_a: int, only_b: int, images: int) -> int | None:
    """Images after which McNemar's test would decide in four of five cases (Connor, 1987, Biometrics 43:207-211).

    It supposes that the shares of images that only one gets right stay as they were seen; None when they are equal.
    """
    if only_a == only_b:
        return None
    disagree, difference = (only_a + only_b) / images, abs(only_a - only_b) / images
    z, z_power = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2), NormalDist().inv_cdf(POWER)
    spread = z * math.sqrt(disagree) + z_power * math.sqrt(max(0.0, disagree - difference**2))
    return math.ceil((spread / difference) ** 2)


# ---- words -----------------------------------------------------------------------------------------------------


def _verdict(interval: tuple[float, float], equal: float, above: str, below: str) -> str:
    low, high = interval
    return above if low > equal else below if high < equal else CANNOT_TELL


def _notes(a: Measurement, b: Measurement) -> tuple[str, ...]:
    found = [f"{m.recipe.label} on {m.backend} was {m.execution}" for m in (a, b) if m.execution != "executed"]
    if a.environment.get("cpu") != b.environment.get("cpu"):
        found.append("the two were measured on different machines")
    return tuple(found)


def _speed_sentence(c: Comparison) -> str:
    if c.speed == "not measured":
        return "Speed: not measured."
    low, high = c.speedup_interval
    calls = " and ".join(f"{n:,}" for n in c.calls)
    sentence = f"Speed: {c.speed}, {c.speedup:.2f} × ({CONFIDENCE:.0%} {low:.2f} to {high:.2f}; {calls} calls)."
    if c.speed != CANNOT_TELL:
        return sentence
    if c.calls_needed:
        return f"{sentence} About {c.calls_needed:,} calls of each would decide."
    return sentence if c.interleaved else f"{sentence} Interleaved runs may tell (measure_interleaved)."


def _accuracy_sentence(c: Comparison) -> str:
    if c.accuracy == "not measured":
        return "Top-1: not measured."
    low, high = c.top1_interval
    sentence = (
        f"Top-1: {c.accuracy}, {100 * c.top1_difference:+.2f} points "
        f"({CONFIDENCE:.0%} {100 * low:+.2f} to {100 * high:+.2f}; {c.images:,} images)."
    )
    if c.accuracy == CANNOT_TELL and c.images_needed:
        sentence += f" About {c.images_needed:,} images would decide."
    return sentence
