"""Move the limits and see which engine is chosen."""

from __future__ import annotations

import ipywidgets as widgets
import pandas as pd

from ..errors import Refusal, WorkbenchError
from ..progress import Progress
from ..reporting import figures
from ..studies.choice import Choice, candidates, choose
from . import controls
from .choices import Limits
from .panel import Panel

LATENCY = "p99_ms"


def trade_off_panel(study, limits: Limits | None = None, *, batch: int | None = None) -> Panel:
    """Choose under limits; the ring in the chart moves with them, and ``panel.result()`` is the ``Choice``.

    Args:
        study: a ``Study`` that ran, its results, or their frame; a frame alone gives no engine to pack.
        limits: what the panel starts from.
        batch: choose among the cells of this batch size only.
    """
    frame = study if isinstance(study, pd.DataFrame) else study.with_intervals()
    seed = limits or Limits()
    rows = _controls(seed, candidates(frame, batch))
    chart, reason = controls.with_class(controls.Chart(), "chart"), controls.with_class(widgets.HTML(), "choice")

    def read() -> Limits:
        latency = controls.exact(rows["latency"], seed.max_latency_ms or 0.0)
        return Limits(controls.exact(rows["drop"], seed.max_drop), latency if rows["limited"].value else None)

    def pick(chosen: Limits, progress: Progress | None = None) -> Choice:
        limits = chosen.max_drop, chosen.max_latency_ms, batch, LATENCY
        return choose(frame, *limits) if study is frame else study.choose(*limits)

    def advise(chosen: Limits) -> list[Refusal]:
        rows["latency"].disabled = chosen.max_latency_ms is None
        try:
            choice = pick(chosen)
        except WorkbenchError as error:
            chart.draw(figures.pareto(frame, max_drop=chosen.max_drop, batch=batch))
            reason.value = ""
            return [Refusal(f"{error.what}: {error.why}", error.remedy)]
        chart.draw(figures.pareto(frame, choice, chosen.max_drop, batch))
        reason.value = controls.paragraph(choice.reason)
        return []

    return Panel(
        "trade-off",
        list(rows.values()),
        read,
        pick,
        view=(chart, reason),
        verb="Take this engine",
        advise=advise,
    )


def _controls(limits: Limits, rows: pd.DataFrame) -> controls.Controls:
    c, slowest = controls, float(rows[LATENCY].max()) if len(rows) else 100.0
    start = slowest if limits.max_latency_ms is None else limits.max_latency_ms
    most = max(1.0, float(rows.drop_points.max())) if len(rows) else 5.0
    return {
        "drop": c.slider("max-drop", "Top-1 may lose (points)", limits.max_drop, most),
        "limited": c.checkbox(
            "limit-latency",
            "Limit the latency: how long 99 of 100 calls may take at most",
            limits.max_latency_ms is not None,
        ),
        "latency": c.slider("max-latency", "A call may take (ms, p99)", start, slowest),
    }
