"""A study as a data frame: one row per cell, the unit in the name of every column that has one."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from ..records import Measurement, Recipe
from ..statistics.intervals import discordant_pairs, latency_range, paired_interval, throughput_range
from ..statistics.plausible import largest_speedup, question

MIB = 1 << 20
#: The columns of numbers; NaN in the rows of cells that were not measured.
NUMBERS = (
    "p50_ms",
    "p90_ms",
    "p99_ms",
    "images_per_second",
    "images_per_second_low",
    "images_per_second_high",
    "compute_images_per_second",
    "speedup",
    "speedup_low",
    "speedup_high",
    "largest_speedup",
    "top1",
    "top1_low",
    "top1_high",
    "top5",
    "drop_points",
    "drop_points_low",
    "drop_points_high",
    "agreement",
    "images",
    "memory_mib",
    "engine_mib",
    "build_s",
    "joules_per_image",
)
COLUMNS = (
    "label",
    "precision",
    "backend",
    "card",
    "where",
    "batch",
    "execution",
    *NUMBERS,
    "attention_fused",
    "notes",
    "reason",
    "remedy",
    "recipe",
    "variant",
    "run_id",
)


def cell_row(backend: str, recipe: Recipe, batch: int, card: str | None = None, host: str = "") -> dict:
    """The row of a cell that was not measured: its place in the grid, and NaN for every number."""
    row = dict.fromkeys(COLUMNS, "") | dict.fromkeys(NUMBERS, math.nan)
    known = {"label": recipe.label, "precision": recipe.precision, "backend": backend, "batch": batch}
    known |= {"card": card or "", "where": place_of(backend, host, card)}
    return row | known | {"recipe": recipe, "execution": "to do"}


def place_of(backend: str, host: str, card: str | None) -> str:
    """Backend, host and card in a few words; the host of this machine has the name of its backend."""
    return " ".join(filter(None, (backend, f"at {host}" if host not in ("", backend) else "", card)))


def measured_row(measurement: Measurement, host: str = "") -> dict:
    """The row of a measurement; ``host`` is the name of the host that it was taken on, if not this machine."""
    m = measurement
    return cell_row(m.backend, m.recipe, m.batch, m.card, host) | words_of(m) | numbers_of(m)


#: The columns of ``words_of``.
WORDS = ("execution", "variant", "run_id", "attention_fused", "notes")


def words_of(m: Measurement) -> dict[str, str]:
    """The columns of a measurement that are text and do not follow from its place in the grid."""
    notes = "; ".join(filter(None, (*m.notes, m.caveat)))
    return dict(zip(WORDS, (m.execution, m.variant, m.run_id, m.attention_fused, notes)))


def numbers_of(m: Measurement) -> dict[str, float]:
    """The columns of a measurement that are numbers; NaN for what was not measured, and for speed-ups."""
    row = dict.fromkeys(NUMBERS, math.nan) | {"engine_mib": m.engine_bytes / MIB, "build_s": m.build_seconds}
    if m.latencies_s:
        row |= {"p50_ms": m.p50_ms, "p90_ms": m.p90_ms, "p99_ms": m.p99_ms, "memory_mib": m.memory_bytes / MIB}
        row |= dict(zip(("images_per_second_low", "images_per_second_high"), _throughput_range(m)))
        row |= {"images_per_second": m.images_per_second}
        row |= {"compute_images_per_second": m.compute_images_per_second, "joules_per_image": m.joules_per_image}
    if m.backend == "onnxruntime":
        row["largest_speedup"] = largest_speedup(m)
    if m.labels:
        row |= dict(zip(("top1_low", "top1_high"), m.top1_interval))
        row |= {"top1": m.top1, "top5": m.top5, "images": m.images}
    if m.reference_predictions:
        row["agreement"] = m.agreement
    if m.reference_predictions and m.labels:
        row |= dict(zip(("drop_points", "drop_points_low", "drop_points_high"), paired_drop(m)))
    return row


def _throughput_range(m: Measurement) -> tuple[float, float]:
    """Between which throughputs a run varied, in images per second; from latencies where nothing was counted."""
    if m.end_to_end is not None:
        low, high = throughput_range(m.end_to_end)
        return m.batch * low, m.batch * high
    low, high = latency_range(m.latencies_s)
    return m.batch * m.streams / high, m.batch * m.streams / low


def paired_drop(m: Measurement) -> tuple[float, float, float]:
    """Percentage points of top-1 lost against the reference on the same images, with Tango's 95 % interval."""
    labels = np.asarray(m.labels)
    lost, won = discordant_pairs(np.asarray(m.reference_predictions) == labels, np.asarray(m.predictions) == labels)
    low, high = paired_interval(lost, won, len(labels))
    return 100 * (lost - won) / len(labels), 100 * low, 100 * high


def as_frame(rows: Iterable[dict]) -> pd.DataFrame:
    """Rows of cells as a frame, see ``with_speedups``."""
    return with_speedups(pd.DataFrame(list(rows), columns=list(COLUMNS)))


def with_speedups(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its column ``speedup`` filled in: over FP32 on ONNX Runtime at the same batch.

    A speed-up beyond what the row's arithmetic can give on this machine is not a number, and a note says why.
    """
    plain = (frame.precision == "fp32") & (frame.backend == "onnxruntime") & frame.p50_ms.notna()
    base = frame[plain].groupby("batch").images_per_second.max()
    ratio = frame.images_per_second / frame.batch.map(base)
    here = frame["where"] == "onnxruntime"  # on another machine than FP32's, no ratio is forbidden
    most = frame.largest_speedup.where(here, math.inf).astype(float)
    for index in frame.index[ratio > most]:
        asked = question(ratio[index], most[index])
        frame.loc[index, "notes"] = "; ".join(filter(None, (frame.notes[index], asked)))
    frame["speedup"] = ratio.where(~(ratio > most))
    return frame
