"""Which engine to take: the Pareto front of a study, and the choice under limits, with its reason in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import WorkbenchError, one_of, refuse_unless
from ..records import Engine, Measurement
from ..statistics.plausible import QUESTIONED
from ..statistics.sample_size import sample_to_decide
from ..statistics.verdict import CANNOT_TELL, HOLDS, Interval, Verdict, holds_limit, lies_below
from .limits import Limits


def candidates(frame: pd.DataFrame, batch: int | None = None) -> pd.DataFrame:
    """The rows that were timed and have an accuracy, executed or emulated; not those that were only built.

    Args:
        frame: what ``Study.frame`` returns.
        batch: the rows of this batch size only.
    """
    return frame[_timed(frame, batch)]


def _timed(frame: pd.DataFrame, batch: int | None) -> pd.Series:
    ran = frame.execution.isin(["executed", "emulated"]) & frame.images_per_second.notna() & frame.top1.notna()
    return ran & (True if batch is None else frame.batch == batch)


def executed(frame: pd.DataFrame, batch: int | None = None) -> pd.DataFrame:
    """The candidates that can be taken; an emulated row has the accuracy of its type, but not its speed."""
    rows = candidates(frame, batch)
    return rows[rows.execution == "executed"]


#: What a front weighs against accuracy: a column of the frame -> 1 where more of it is better, -1 where less is.
AGAINST = {"images_per_second": 1, "joules_per_image": -1}


def pareto(frame: pd.DataFrame, batch: int | None = None, against: str = "images_per_second") -> pd.DataFrame:
    """The executed rows that no other row beats in accuracy and throughput (for one batch: latency) at once.

    Args:
        frame: what ``Study.frame`` returns.
        batch: look at this batch size only; None compares all batch sizes by their throughput.
        against: ``images_per_second``, or ``joules_per_image`` for accuracy against energy; rows whose energy could
            not be read are then left out.

    Returns:
        The rows of the front, fastest or most frugal first. Of equal rows the first is kept.

    Raises:
        WorkbenchError: ``against`` is another column.
    """
    one_of("column to weigh against accuracy", against, AGAINST)
    gain, top1 = AGAINST[against] * frame[against].to_numpy(), frame.top1.to_numpy()
    taken = np.flatnonzero(_timed(frame, batch) & (frame.execution == "executed") & ~np.isnan(gain))
    taken = taken[np.lexsort((-top1[taken], -gain[taken]))]
    best_before = np.maximum.accumulate(np.concatenate([[-math.inf], top1[taken]]))[:-1]
    return frame.iloc[taken[top1[taken] > best_before]]


@dataclass(frozen=True)
class Choice:
    """The engine that a study recommends under limits.

    Attributes:
        row: the chosen row of the study's frame.
        reason: why this one, in sentences.
        verdict: whether the accuracy limit ``holds`` or ``fails`` by the 95 % interval of the drop, which is paired
            image by image with FP32; else ``cannot tell``.
        limits: what was asked for.
        runner_up: the fastest qualifying row of another recipe or backend, or None.
        changes: which other limit would make which other row the choice, a sentence each.
        place: of the row in the frame.
        engine: the engine itself, where the choice was made from a workspace; ``export_bundle`` packs it.
        measurement: the measurement behind the row, likewise.
    """

    row: Mapping
    reason: str
    verdict: Verdict
    limits: Limits
    runner_up: Mapping | None = None
    changes: tuple[str, ...] = ()
    place: int = 0
    engine: Engine | None = None
    measurement: Measurement | None = None

    @property
    def label(self) -> str:
        """Recipe, backend, card and batch in one line."""
        return row_name(self.row)

    @property
    def max_drop(self) -> float | None:
        """The accuracy that may be lost against FP32, percentage points; None is no limit."""
        return self.limits.max_drop

    @property
    def max_latency_ms(self) -> float | None:
        """The limit on the latency column ``limits.latency``, or None."""
        return self.limits.max_latency_ms

    def __str__(self) -> str:
        return self.reason


def choose(
    frame: pd.DataFrame,
    max_drop: float | None = 0.5,
    max_latency_ms: float | None = None,
    batch: int | None = None,
    latency: str = "p99_ms",
    *,
    min_images_per_second: float | None = None,
    max_memory_mib: float | None = None,
    max_engine_mib: float | None = None,
    max_joules_per_image: float | None = None,
) -> Choice:
    """The executed row with the highest throughput among those within the limits.

    Where the clock cannot tell some rows from the fastest one, and its accuracy limit is not shown to hold, the
    fastest of them for which it is shown is taken. A limit of None is no limit.

    Args:
        frame: what ``Study.frame`` returns.
        max_drop: how many percentage points of top-1 may be lost against FP32 on ONNX Runtime.
        max_latency_ms: how long a call may take, by the column ``latency``.
        batch: choose among the rows of this batch size only.
        latency: ``p99_ms``, ``p90_ms`` or ``p50_ms``.
        min_images_per_second: the throughput that is needed.
        max_memory_mib: peak memory of the session.
        max_engine_mib: size of the engine's files.
        max_joules_per_image: energy; a row whose energy could not be read is not within the limit.

    Raises:
        WorkbenchError: nothing was measured, or no row is within the limits; the error names the nearest row.
    """
    limits = Limits(
        max_drop,
        max_latency_ms,
        min_images_per_second,
        max_memory_mib,
        max_engine_mib,
        max_joules_per_image,
        latency,
    )
    rows = executed(frame, batch)
    refuse_unless(
        len(rows) > 0,
        "There is nothing to choose from",
        why="no row of the study was executed and has an accuracy"
        + (f" at batch {batch}" if batch is not None else ""),
        remedy="run the study first; the columns reason and remedy of its frame say why a row was not measured",
    )
    rows = rows.sort_values("images_per_second", ascending=False, kind="stable")
    fits = limits.within(rows)
    if fits.empty:
        raise _nothing_fits(rows, limits)
    best = _best(fits, limits)
    others = fits[(fits.label != best.label) | (fits["where"] != best["where"])]
    runner_up = None if others.empty else others.iloc[0].to_dict()
    found, changes = verdict(best.to_dict(), max_drop), tuple(_changes(rows, best, limits))
    reason = " ".join((*_reasons(best, runner_up, fits, found, limits), *changes))
    return Choice(best.to_dict(), reason, found, limits, runner_up, changes, int(str(best.name)))


def verdict(row: Mapping, max_drop: float | None) -> Verdict:
    """Whether the sample shows that a row loses at most ``max_drop`` points: holds, fails or cannot tell."""
    return HOLDS if max_drop is None else holds_limit(_drop_interval(row), max_drop)


def images_to_decide(row: Mapping, max_drop: float) -> int | None:
    """About how many images would decide the verdict in four of five samples, if the drop stays as it is.

    None where the drop is on the limit.
    """
    return sample_to_decide(row["drop_points"], _drop_interval(row), max_drop, row["images"])


def _drop_interval(row: Mapping) -> Interval:
    return row["drop_points_low"], row["drop_points_high"]


def row_name(row: Mapping) -> str:
    """Recipe, runtime, host, card and batch of a row in one line."""
    return f"{row['label']} on {row['where']}, batch {row['batch']}"


# ---- the row -----------------------------------------------------------------------------------------------------


def _best(fits: pd.DataFrame, limits: Limits) -> pd.Series:
    """The fastest row, or of those that the clock cannot tell from it the first whose accuracy is shown."""
    fastest = fits.iloc[0]
    alike = fits[fits.images_per_second_high >= fastest.images_per_second_low]
    shown = [row for _, row in alike.iterrows() if verdict(row.to_dict(), limits.max_drop) == HOLDS]
    return shown[0] if shown else fastest


def _changes(rows: pd.DataFrame, best: pd.Series, limits: Limits) -> Iterator[str]:
    """For each limit: the looser one that would make a faster row the choice."""
    for limit in limits:
        faster = limits.within(rows, but=limit)
        faster = faster[faster.images_per_second > best.images_per_second]
        faster = faster[~limit.within(faster) & faster[limit.column].notna()]
        if len(faster):
            row = faster.iloc[0]
            yield (
                f"With {limit.admitting(row)}, the choice would be {row_name(row)}:"
                f" {row.images_per_second / best.images_per_second:.2f} times as fast."
            )


# ---- sentences ---------------------------------------------------------------------------------------------------


def _reasons(best, runner_up, fits, found, limits: Limits):
    speed = f"{best.images_per_second:,.0f} images/s"
    if not math.isnan(best.speedup):
        speed += f" ({best.speedup:.2f} × FP32 on ONNX Runtime)"
    elif questions := [note for note in best.get("notes", "").split("; ") if QUESTIONED in note]:
        speed += f" (questioned: {questions[0]})"
    count = f"{len(fits)} measured within the limits ({limits})"
    if best.name == fits.iloc[0].name:
        yield f"Take {row_name(best)}: the fastest of {count}, with {speed}."
    else:
        yield (
            f"Take {row_name(best)}, with {speed}. Of {count} the fastest is {row_name(fits.iloc[0])},"
            " but these samples cannot tell the two apart in speed, and only of the one taken is the accuracy limit"
            " shown to hold."
        )
    if limits.max_drop is None:
        yield f"It classifies {best.top1:.1%} of {best.images:,.0f} images correctly; what it loses is not limited."
    else:
        yield (
            f"It classifies {best.top1:.1%} of {best.images:,.0f} images correctly"
            f" and {_change(best, 'loses', 'gains')} against FP32 on the same images: the limit {_VERDICTS[found]}."
        )
    if found == CANNOT_TELL and limits.max_drop is not None:
        if needed := images_to_decide(best, limits.max_drop):
            yield f"About {_round_up(needed):,} images would decide it."
        sure = fits[fits.drop_points_high <= limits.max_drop]
        if len(sure):
            yield f"The fastest row for which the limit is shown to hold is {row_name(sure.iloc[0])}."
    if runner_up is not None:
        change = _change(runner_up, "losing", "gaining")
        yield f"The runner-up is {row_name(runner_up)}, {_slower(runner_up, best)}, {change}."
    else:
        yield "No other recipe or backend is within the limits."


#: The verdict "fails" is impossible here: the interval of a row within the limits contains its own drop.
_VERDICTS = {
    HOLDS: "holds",
    CANNOT_TELL: "is met, but this sample cannot tell whether it holds",
}


def _slower(row: Mapping, best: Mapping) -> str:
    ratio = row["images_per_second"] / best["images_per_second"]
    share = f"{1 - ratio:.0%} slower" if ratio <= 1 else f"{ratio - 1:.0%} faster"
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


def _nothing_fits(rows: pd.DataFrame, limits: Limits) -> WorkbenchError:
    what = f"No engine of this study is within the limits: {limits}"
    if refusal := limits.unmeasured(rows):
        return WorkbenchError(what, why=refusal.reason, remedy=refusal.remedy)
    nearest = rows.loc[sum((limit.excess(rows) for limit in limits), 0.0 * rows.top1).idxmin()]
    missed = [limit for limit in limits if not limit.within(rows.loc[[nearest.name]]).all()]
    has = " and ".join(limit.of(nearest) for limit in missed)
    return WorkbenchError(
        what,
        why=f"the nearest is {row_name(nearest)}, with {has}",
        remedy=f"allow {' and '.join(limit.admitting(nearest) for limit in missed)}"
        ", or add recipes, batches or hosts to the study",
    )
