"""One screen that follows an engine: its recipe, what was fused, its time by block, its accuracy and its size."""

from __future__ import annotations

from dataclasses import dataclass

import ipywidgets as widgets
import pandas as pd

from ..errors import WorkbenchError, refuse_unless
from ..performance.fusion import fusion
from ..performance.source_map import layer_sources
from ..progress import Progress
from ..records import Engine, Measurement, wilson
from ..reporting import figures
from ..reporting.table import number
from ..studies.choice import Choice
from . import controls
from .panel import Panel

MIB = 2**20


@dataclass(frozen=True, eq=False)
class EngineSheet:
    """What is known of an engine, from the recipe to the bytes.

    Attributes:
        engine: the engine.
        measurement: of it.
        facts: ``step``, ``what`` and ``found``, in the order of the pipeline.
        fused: ``wb.fusion`` of it, a row per block; None where its runtime does not tell.
        times: ``block``, ``role`` and ``ms`` of one call; None where it does not run here.
        unknown: why something of these is not known, a sentence each.
    """

    engine: Engine
    measurement: Measurement
    facts: pd.DataFrame
    fused: pd.DataFrame | None
    times: pd.DataFrame | None
    unknown: tuple[str, ...]


def engine_sheet(choice: Choice) -> EngineSheet:
    """Follow the engine that a study chose.

    Args:
        choice: from a study, or from its results in a workspace, so that it knows its engine and measurement.

    Raises:
        WorkbenchError: the choice was made from a frame alone.
    """
    engine, measurement = choice.engine, choice.measurement
    refuse_unless(
        engine is not None and measurement is not None,
        "This choice knows no engine",
        why="it was made from a frame, without the workspace",
        remedy="choose from a Study, or from study_results(workspace, name)",
    )
    assert engine is not None
    assert measurement is not None
    unknown: list[str] = []
    fused = _or_reason(lambda: fusion(engine), "Fusion", unknown)
    times = _or_reason(lambda: _by_block(engine, measurement.batch), "Time by block", unknown)
    facts = pd.DataFrame(_facts(choice, engine, measurement, fused, times), columns=["step", "what", "found"])
    return EngineSheet(engine, measurement, facts, fused, times, tuple(unknown))


def _or_reason(work, what: str, unknown: list[str]):
    try:
        return work()
    except WorkbenchError as error:
        unknown.append(f"{what} is not known: {error.why}. What to do: {error.remedy}.")
        return None


def _by_block(engine: Engine, batch: int) -> pd.DataFrame:
    layers = layer_sources(engine, batch).dropna(subset="block")
    return layers.groupby(["block", "role"], as_index=False, sort=False)["ms"].sum()


def _facts(choice: Choice, engine: Engine, m: Measurement, fused, times) -> list[tuple[str, str, str]]:
    recipe, row = engine.variant.recipe, choice.row
    low, high = wilson(round(m.top1 * m.images), m.images)
    rows = [
        ("recipe", "what is done to the graph", recipe.label),
        ("recipe", "type beside the low one", recipe.resolved_high_precision),
        *(("recipe", "note", note) for note in engine.variant.notes),
        (
            "engine",
            "built by",
            f"{engine.backend} for {engine.card or 'this machine'}, in {engine.build_seconds:.1f} s",
        ),
        ("engine", "takes batches", str(engine.batches)),
        ("time", "one call (median)", f"{number(m.p50_ms)} ms at batch {m.batch}, {len(m.latencies_s):,} calls"),
        ("time", "99 of 100 calls", f"{number(m.percentile_ms(99))} ms at most"),
        ("time", "throughput", f"{number(m.images_per_second)} images/s, {row['speedup']:.2f} × FP32"),
        ("accuracy", "top-1", f"{m.top1:.1%} [{low:.1%}, {high:.1%}] of {m.images:,} images"),
        ("accuracy", "lost against FP32", _lost(row)),
        ("accuracy", "same class as FP32", f"{m.agreement:.1%}"),
        ("size", "file", f"{m.engine_bytes / MIB:,.1f} MiB"),
        ("size", "memory while it runs", f"{m.memory_bytes / MIB:,.0f} MiB"),
    ]
    if fused is not None:
        count = int(fused["attention_fused"].fillna(False).astype(bool).sum())
        rows.insert(-8, ("fusion", "attention in one kernel", f"{count} of {len(fused)} blocks"))
    if times is not None:
        slowest = times.loc[times["ms"].idxmax()]
        words = f"{slowest['block']}/{slowest['role']}, {number(slowest['ms'])} ms"
        rows.insert(-5, ("time", "slowest place", words))
    return rows


def _lost(row) -> str:
    return f"{row['drop_points']:.2f} points [{row['drop_points_low']:.2f}, {row['drop_points_high']:.2f}]"


def engine_sheet_panel(source: Choice | Panel) -> Panel:
    """A panel that shows an engine's sheet; ``panel.result()`` is the ``EngineSheet``.

    Args:
        source: the choice of a study, or the panel that gives one: then it follows whatever is chosen there.
    """
    chart = controls.with_class(controls.Chart(), "chart")

    def follow(nothing: None, progress: Progress) -> EngineSheet:
        progress("choose", 0, 2)
        choice = source.make(progress) if isinstance(source, Panel) else source
        progress("time its layers", 1, 2)
        return engine_sheet(choice)

    def show(sheet: EngineSheet) -> widgets.Widget:
        parts = [widgets.HTML(controls.table(sheet.facts))]
        parts += [widgets.HTML(controls.muted(reason)) for reason in sheet.unknown]
        if sheet.fused is not None:
            parts.append(widgets.HTML(controls.table(sheet.fused)))
        if sheet.times is not None:
            title = f"{sheet.engine.label}: time of one call at batch {sheet.measurement.batch}, by block and role"
            chart.draw(figures.heat_map(sheet.times, "ms", title, "ms", "lower"))
            parts.append(chart)
        return widgets.VBox(parts)

    return Panel(
        "engine-sheet",
        [],
        lambda: None,
        follow,
        after=source if isinstance(source, Panel) else None,
        verb="Follow this engine",
        show=show,
    )
