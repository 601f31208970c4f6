"""Which engine to take: the Pareto front of a study, and the choice under limits, with its reason in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from ..errors import WorkbenchError, one_of, refuse_unless
from ..records import Engine, Measurement
from ..statistics.sample_size import sample_to_decide
from ..statistics.verdict import CANNOT_TELL, HOLDS, Interval, Verdict, holds_limit, lies_below
from .frame import QUESTIONED


def candidates(frame: pd.DataFrame, batch: int | None = None) -> pd.DataFrame:
    """The rows that were timed and have an accuracy, executed or emulated; not those that were only built.

    Args:
        frame: what ``Study.frame`` returns.
        batch: the rows of this batch size only.
    """
    ran = frame.execution.isin(["executed", "emulated"]) & frame.images_per_second.notna() & frame.top1.notna()
    return frame[ran & (True if batch is None else frame.batch == batch)]


def executed(frame: pd.DataFrame, batch: int | None = None) -> pd.DataFrame:
    """The candidates that can be taken; an emulated row has the accuracy of its type, but not its speed."""
    rows = candidates(frame, batch)
    return rows[rows.execution == "executed"]


def pareto(frame: pd.DataFrame, batch: int | None = None) -> pd.DataFrame:
    """The executed rows that no other row beats in accuracy and throughput (for one batch: latency) at once.

    Args:
        frame: what ``Study.frame`` returns.
        batch: look at this batch size only; None compares all batch sizes by their throughput.

    Returns:
        The rows of the front, fastest first. Of equal rows the first is kept.
    """
    rows = executed(frame, batch).sort_values(["images_per_second", "top1"], ascending=False, kind="stable")
    best_before = rows.top1.cummax().shift(fill_value=-math.inf)
    return rows[rows.top1 > best_before]


@dataclass(frozen=True)
class Choice:
    """The engine that a study recommends under limits.

    Attributes:
        row: the chosen row of the study's frame.
        reason: why this one, in sentences.
        verdict: whether the accuracy limit ``holds`` or ``fails`` by the 95 % interval of the drop, which is paired
            image by image with FP32; else ``cannot tell``.
        runner_up: the fastest qualifying row of another recipe or backend, or None.
        engine: the engine itself, where the choice was made from a workspace; ``export_bundle`` packs it.
        measurement: the measurement behind the row, likewise.
        max_drop: the accuracy that may be lost against FP32, percentage points.
        max_latency_ms: the limit on the latency column ``latency``, or None.
    """

    row: Mapping
    reason: str
    verdict: Verdict
    max_drop: float
    max_latency_ms: float | None = None
    latency: str = "p99_ms"
    runner_up: Mapping | None = None
    engine: Engine | None = None
    measurement: Measurement | None = None

    @property
    def label(self) -> str:
        """Recipe, backend, card and batch in one line."""
        return row_name(self.row)

    def __str__(self) -> str:
        return self.reason


def choose(
    frame: pd.DataFrame,
    max_drop: float = 0.5,
    max_latency_ms: float | None = None,
    batch: int | None = None,
    latency: str = "p99_ms",
) -> Choice:
    """The executed row with the highest throughput among those within the limits.

    Args:
        frame: what ``Study.frame`` returns.
        max_drop: how many percentage points of top-1 may be lost against FP32 on ONNX Runtime.
        max_latency_ms: how long a call may take, by the column ``latency``.
        batch: choose among the rows of this batch size only.
        latency: ``p99_ms``, ``p90_ms`` or ``p50_ms``.

    Raises:
        WorkbenchError: nothing was measured, or no row is within the limits; the error names the nearest row.
    """
    one_of("latency column", latency, ("p99_ms", "p90_ms", "p50_ms"))
    for name, limit in {"max_drop": max_drop, "max_latency_ms": max_latency_ms or 0}.items():
        refuse_unless(
            isinstance(limit, int | float) and not math.isnan(limit),
            f"{name} must be a number",
            why=f"it is {limit!r}",
            remedy="give percentage points, and milliseconds or None",
        )
    rows = executed(frame, batch)
    refuse_unless(
        len(rows) > 0,
        "There is nothing to choose from",
        why="no row of the study was executed and has an accuracy"
        + (f" at batch {batch}" if batch is not None else ""),
        remedy="run the study first; the columns reason and remedy of its frame say why a row was not measured",
    )
    accurate = rows.drop_points <= max_drop
    quick = rows[latency] <= (math.inf if max_latency_ms is None else max_latency_ms)
    fits = rows[accurate & quick].sort_values("images_per_second", ascending=False, kind="stable")
    if fits.empty:
        raise _nothing_fits(rows, max_drop, max_latency_ms, latency)
    best = fits.iloc[0]
    others = fits[(fits.label != best.label) | (fits["where"] != best["where"])]
    runner_up = None if others.empty else others.iloc[0].to_dict()
    found = verdict(best, max_drop)
    reason = " ".join(_reasons(best, runner_up, fits, found, max_drop, max_latency_ms, latency))
    return Choice(best.to_dict(), reason, found, max_drop, max_latency_ms, latency, runner_up)


def verdict(row: Mapping, max_drop: float) -> Verdict:
    """Whether the sample shows that a row loses at most ``max_drop`` points: holds, fails or cannot tell."""
    return holds_limit(_drop_interval(row), max_drop)


def images_to_decide(row: Mapping, max_drop: float) -> int | None:
    """About how many images would decide the verdict if the drop stays as it is; None where it is on the limit."""
    return sample_to_decide(row["drop_points"], _drop_interval(row), max_drop, row["images"], power=0.5)


def _drop_interval(row: Mapping) -> Interval:
    return row["drop_points_low"], row["drop_points_high"]


def row_name(row: Mapping) -> str:
    """Recipe, runtime, host, card and batch of a row in one line."""
    return f"{row['label']} on {row['where']}, batch {row['batch']}"


def _reasons(best, runner_up, fits, found, max_drop, max_latency_ms, latency):
    limits = _limits(max_drop, max_latency_ms, latency)
    speed = f"{best.images_per_second:,.0f} images/s"
    if not math.isnan(best.speedup):
        speed += f" ({best.speedup:.2f} × FP32 on ONNX Runtime)"
    elif questions := [note for note in best.get("notes", "").split("; ") if QUESTIONED in note]:
        speed += f" (questioned: {questions[0]})"
    yield f"Take {row_name(best)}: the fastest of {len(fits)} measured within the limits ({limits}), with {speed}."
    yield (
        f"It classifies {best.top1:.1%} of {best.images:,.0f} images correctly"
        f" and {_change(best, 'loses', 'gains')} against FP32 on the same images: the limit {_VERDICTS[found]}."
    )
    if found == CANNOT_TELL:
        if needed := images_to_decide(best, max_drop):
            yield f"About {_round_up(needed):,} images would decide it."
        sure = fits[fits.drop_points_high <= max_drop]
        if len(sure):
            yield f"The fastest row for which the limit is shown to hold is {row_name(sure.iloc[0])}."
    if runner_up is not None:
        change = _change(runner_up, "losing", "gaining")
        yield f"The runner-up is {row_name(runner_up)}, {_slower(runner_up, best)}, {change}."
    else:
        yield "No other recipe or backend is within the limits."


def _limits(max_drop: float, max_latency_ms: float | None, latency: str) -> str:
    limits = f"at most {max_drop:g} points lost"
    if max_latency_ms is None:
        return limits
    return f"{limits} and {latency.removesuffix('_ms')} at most {max_latency_ms:g} ms"


#: The verdict "fails" is impossible here: the interval of a row within the limits contains its own drop.
_VERDICTS = {
    HOLDS: "holds",
    CANNOT_TELL: "is met, but this sample cannot tell whether it holds",
}


def _slower(row: Mapping, best: Mapping) -> str:
    share = f"{1 - row['images_per_second'] / best['images_per_second']:.0%} slower"
    ours, best_speed = ((each["images_per_second_low"], each["images_per_second_high"]) for each in (row, best))
    return share if lies_below(ours, best_speed) else f"{share} (which these samples cannot tell from equal)"


def _change(row: Mapping, loses: str, gains: str) -> str:
    """How many points a row loses, or gains where it classifies more images correctly than FP32."""
    lost, low, high = (row[f"drop_points{end}"] for end in ("", "_low", "_high"))
    if round(lost, 2) >= 0:
        return f"{loses} {abs(lost):.2f} points (95 % interval {low:.2f} to {high:.2f})"
    return f"{gains} {-lost:.2f} points (95 % interval {-high:.2f} to {-low:.2f})"


def _round_up(images: int) -> int:
    step = 10 ** max(2, math.floor(math.log10(images)) - 1)
    return math.ceil(images / step) * step


def _nothing_fits(rows, max_drop, max_latency_ms, latency) -> WorkbenchError:
    over = (rows.drop_points - max_drop).clip(lower=0)
    late = (rows[latency] / max_latency_ms - 1).clip(lower=0) if max_latency_ms else 0 * over
    nearest = rows.loc[(over / max(max_drop, 0.1) + late).idxmin()]
    return WorkbenchError(
        f"No engine of this study is within the limits: {_limits(max_drop, max_latency_ms, latency)}",
        why=f"the nearest is {row_name(nearest)}, which loses {nearest.drop_points:.2f} points"
        f" with a {latency.removesuffix('_ms')} of {nearest[latency]:.3g} ms",
        remedy=f"allow {max(max_drop, nearest.drop_points):.2f} points"
        + (f" and {max(max_latency_ms, nearest[latency]):.3g} ms" if max_latency_ms is not None else "")
        + ", or add recipes, batches or hosts to the study",
    )
