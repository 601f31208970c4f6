"""Move the limits and see which engine is chosen."""

from __future__ import annotations

import types

import ipywidgets as widgets
import pandas as pd
import plotly.graph_objects as go

from ..backends.base import Progress
from ..errors import WorkbenchError
from ..studies.choice import Choice, candidates, choose
from . import controls
from .choices import Limits
from .panel import Panel

LATENCY = "p99_ms"


def trade_off_panel(study, limits: Limits | None = None, *, batch: int | None = None) -> Panel:
    """Choose under limits; the ring in the chart moves with them, and ``panel.result()`` is the ``Choice``.

    Args:
        study: a ``Study`` that ran, or its frame.
        limits: what the panel starts from.
        batch: choose among the cells of this batch size only.
    """
    frame = study if isinstance(study, pd.DataFrame) else study.frame()
    seed = limits or Limits()
    rows = _controls(seed, _shown(frame, batch))
    chart, reason = _Chart(frame, batch, seed), controls.hooked(widgets.HTML(), "choice")

    def read() -> Limits:
        return Limits(rows["drop"].value, rows["latency"].value if rows["limited"].value else None)

    def pick(chosen: Limits, progress: Progress | None = None) -> Choice:
        return choose(frame, chosen.max_drop, chosen.max_latency_ms, batch, LATENCY)

    def advise(chosen: Limits) -> list[str]:
        rows["latency"].disabled = chosen.max_latency_ms is None
        try:
            choice = pick(chosen)
        except WorkbenchError as error:
            chart.move(chosen, None)
            reason.value = ""
            return [f"{error.what}: {error.why}. What to do: {error.remedy}."]
        chart.move(chosen, choice)
        reason.value = controls.paragraph(choice.reason)
        return []

    return Panel(
        "trade-off",
        list(rows.values()),
        read,
        pick,
        view=(chart.figure, reason),
        verb="Take this engine",
        advise=advise,
    )


def _shown(frame: pd.DataFrame, batch: int | None) -> pd.DataFrame:
    rows = candidates(frame)
    return rows if batch is None else rows[rows.batch == batch]


def _controls(limits: Limits, rows: pd.DataFrame) -> dict[str, widgets.Widget]:
    c, slowest = controls, float(rows[LATENCY].max()) if len(rows) else 100.0
    start = slowest if limits.max_latency_ms is None else limits.max_latency_ms
    most = max(1.0, float(rows.drop_points.max())) if len(rows) else 5.0
    return {
        "drop": c.slider("max-drop", "Points of top-1 that may be lost", limits.max_drop, 0, most, 0.05, ".2f"),
        "limited": c.tick(
            "limit-latency", "Limit how long 99 of 100 calls may take", limits.max_latency_ms is not None
        ),
        "latency": c.slider("max-latency", "Milliseconds a call", start, 0, slowest, slowest / 200, ".2f"),
    }


class _Chart:
    """The study's chart with a ring and a line that move; nothing else of it is drawn again."""

    def __init__(self, frame: pd.DataFrame, batch: int | None, limits: Limits):
        from .. import plots

        first = types.SimpleNamespace(row=_shown(frame, batch).iloc[0]) if len(_shown(frame, batch)) else None
        self.figure = go.FigureWidget(plots.pareto(frame, choice=first, max_drop=limits.max_drop, batch=batch))
        self._nothing_lost = self.figure.layout.shapes[0].y0 + limits.max_drop
        self._ring = next(trace for trace in self.figure.data if trace.name == "chosen")

    def move(self, limits: Limits, choice: Choice | None) -> None:
        """Put the line at the limit and the ring around the choice, or nowhere."""
        floor = self._nothing_lost - limits.max_drop
        with self.figure.batch_update():
            self.figure.layout.shapes[0].update(y0=floor, y1=floor)
            self.figure.layout.annotations[0].update(y=floor, text=f"FP32 − {limits.max_drop:g} points")
            self._ring.x = [choice.row["images_per_second"]] if choice else []
            self._ring.y = [100 * choice.row["top1"]] if choice else []
