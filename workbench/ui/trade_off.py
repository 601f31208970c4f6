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

    Where energy was measured it can be limited too, and a second chart shows accuracy against it.

    Args:
        study: a ``Study`` that ran, its results, or their frame; a frame alone gives no engine to pack.
        limits: what the panel starts from.
        batch: choose among the cells of this batch size only.
    """
    frame = study if isinstance(study, pd.DataFrame) else study.with_intervals()
    seed, shown = limits or Limits(), candidates(frame, batch)
    rows = _controls(seed, shown)
    charts = {"images_per_second": controls.with_class(controls.Chart(), "chart")}
    if figures.has_energy(shown):
        charts["joules_per_image"] = controls.with_class(controls.Chart(), "energy-chart")
    reason = controls.with_class(widgets.HTML(), "choice")

    def read() -> Limits:
        return Limits(
            controls.exact(rows["drop"], seed.max_drop),
            _limit(rows, "latency", seed.max_latency_ms),
            _limit(rows, "energy", seed.max_joules_per_image),
        )

    def pick(chosen: Limits, progress: Progress | None = None) -> Choice:
        limits = chosen.max_drop, chosen.max_latency_ms, batch, LATENCY
        energy = {"max_joules_per_image": chosen.max_joules_per_image}
        return choose(frame, *limits, **energy) if study is frame else study.choose(*limits, **energy)

    def draw(chosen: Limits, choice: Choice | None) -> None:
        for against, chart in charts.items():
            chart.draw(figures.pareto(frame, choice, chosen.max_drop, batch, against))
        reason.value = controls.paragraph(choice.reason) if choice else ""

    def advise(chosen: Limits) -> list[Refusal]:
        for name in ("latency", "energy"):
            if name in rows:
                rows[name].disabled = not rows[f"limit {name}"].value
        try:
            draw(chosen, pick(chosen))
        except WorkbenchError as error:
            draw(chosen, None)
            return [Refusal(f"{error.what}: {error.why}", error.remedy)]
        return []

    return Panel(
        "trade-off",
        list(rows.values()),
        read,
        pick,
        view=(*charts.values(), reason),
        verb="Take this engine",
        advise=advise,
        renews=False,  # the next cell ends the run while the chart is still being drawn, which would lose it
    )


def _limit(rows: controls.Controls, name: str, given: float | None) -> float | None:
    """A limit that is ticked; one that has no control here stays as it was given."""
    if name not in rows:
        return given
    return controls.exact(rows[name], given or 0.0) if rows[f"limit {name}"].value else None


def _controls(limits: Limits, rows: pd.DataFrame) -> controls.Controls:
    c = controls
    most = max(1.0, float(rows.drop_points.max())) if len(rows) else 5.0
    slowest = float(rows[LATENCY].max()) if len(rows) else 100.0
    found = {
        "drop": c.slider("max-drop", "Top-1 may lose (points)", limits.max_drop, most),
        "limit latency": c.checkbox(
            "limit-latency",
            "Limit the latency: how long 99 of 100 calls may take at most",
            limits.max_latency_ms is not None,
        ),
        "latency": c.slider("max-latency", "A call may take (ms, p99)", limits.max_latency_ms or slowest, slowest),
    }
    if figures.has_energy(rows):
        given, hungriest = limits.max_joules_per_image, float(rows.joules_per_image.max())
        words = "Limit the energy: cells whose energy could not be read are then left out"
        found |= {
            "limit energy": c.checkbox("limit-energy", words, given is not None),
            "energy": c.slider("max-energy", "An image may cost (J)", given or hungriest, hungriest),
        }
    return found
