"""The report of a study: one HTML file with the choice and its reason, the figures, the tables and the machine.

Everything is inside the file, Plotly's script too, so that it can be sent by mail and opened without a network.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from ..files import new_file
from ..records import Measurement
from ..studies.choice import Choice, candidates
from ..studies.results import Results
from . import figures
from .figures.theme import CONFIG
from .table import as_html, summary

STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; padding: 1rem 1.2rem 4rem; max-width: 1240px; color: #22262b; background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; margin: .5rem 0 0; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
p, li { max-width: 75ch; } .muted { color: #5a626b; }
.choice { border-left: 5px solid #1b5faa; background: #f3f6fa; padding: .6rem 1.2rem; margin: 1.2rem 0; }
.choice strong { font-size: 1.15rem; }
.scroll { overflow-x: auto; } figure { margin: 1rem 0; }
table { border-collapse: collapse; font-size: 12.3px; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .38rem; border-bottom: 1px solid #e3e6ea; text-align: right; white-space: nowrap; }
th { border-bottom: 2px solid #22262b; vertical-align: bottom; white-space: normal; }
.left th, .left td, th:nth-child(-n+3), td:nth-child(-n+3) { text-align: left; }
.left td { white-space: normal; }
"""

HOW_TO_READ = """
<li><b>Throughput</b> is the number of images completed over the wall clock, from the caller's array to the logits
in the caller's memory. Its bars show how it varied: they hold 95 % of the successive stretches of the run. A figure
that an earlier version derived from latencies has a note that says so. The timed calls of one backend's engines are
interleaved, so that noise of the machine affects all of them alike.</li>
<li><b>Points lost</b> are percentage points of top-1 against the FP32 model on ONNX Runtime, counted image by image
on the same images (Tango's 95 % interval for paired shares). Where the interval reaches beyond the limit, the
sample cannot tell whether the drop stays within the limit.</li>
<li><b>Top-1</b> has Wilson's 95 % interval: it shows where the result of another sample of images may lie, and is
much wider than the interval of the points lost, which compares two models on the same sample.</li>
<li><b>Executed</b> means that the engine ran in the types named. <b>Emulated</b> means that this runtime computes
some of them in another type: the accuracy is the type's own, the latency is not. <b>Built</b> means that the engine
was compiled and could not be run here.</li>
<li>The dotted line is the Pareto front: no other engine is both faster and more accurate. Drag over a figure to
zoom, double click to go back, hover over a point to read all its values.</li>
"""


def write_report(
    path, results: Results, choice: Choice | None = None, *, figures: Iterable[go.Figure] = (), title: str = ""
) -> Path:
    """Write a study's report.

    Args:
        path: the HTML file; its folder is made.
        results: a ``Study``'s ``results()``, or ``study_results(workspace, name)``.
        choice: what was chosen from them; None leaves the choice out.
        figures: more figures, shown after those of the study.
        title: the heading; the study's name when left out.

    Returns:
        The path.

    Raises:
        WorkbenchError: the file cannot be written.
    """
    frame, path = results.frame(), Path(path)
    title = title or f"Study “{results.name}”"
    shown = [*_figures(results, frame, choice), *figures]
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        _subtitle(frame, results.environment()),
        _choice(choice),
        _heading("All cells", _table(summary(frame[frame.execution != "refused"], choice and choice.row))),
        _heading("Figures", _inline(shown)) if shown else "",
        _refused(frame),
        _notes(results.measurements()),
        _heading("How to read this", f"<ul>{HOW_TO_READ}</ul>"),
        _heading("Machine and versions", _table(_facts(results.environment()), "left")),
    ]
    _write(path, title, "\n".join(filter(None, parts)))
    return path


def _figures(results: Results, frame: pd.DataFrame, choice: Choice | None) -> Iterable[go.Figure]:
    """The figures that a study has the numbers for."""
    if candidates(frame).empty:
        return
    compared, max_drop = results.with_intervals(), choice.max_drop if choice else None
    yield figures.pareto(compared, choice, max_drop)
    if figures.has_energy(candidates(compared)):
        yield figures.pareto(compared, choice, max_drop, against="joules_per_image")
    calls = results.latencies()
    batch = choice.row["batch"] if choice else calls.batch.max()
    chosen = calls[calls.batch == batch]
    yield figures.latency_distribution(chosen).update_layout(title_text=f"Latency of single calls, batch {batch}")
    if frame.batch.nunique() > 1:
        yield figures.throughput_over_batch(frame)


def _inline(figures: Iterable[go.Figure]) -> str:
    """Figures as HTML; the first one brings Plotly's script along."""
    parts = [
        figure.to_html(full_html=False, include_plotlyjs=index == 0, config=CONFIG, default_width="100%")
        for index, figure in enumerate(figures)
    ]
    return "\n".join(f"<figure>{part}</figure>" for part in parts)


def _subtitle(frame: pd.DataFrame, environment: Mapping) -> str:
    ran = candidates(frame)
    images = f"{int(ran.images.max()):,} images" if len(ran) else "nothing was run"
    facts = [images, f"{len(ran)} of {len(frame)} cells measured", environment.get("cpu"), environment.get("time")]
    return f'<p class="muted">{html.escape(" · ".join(str(one) for one in facts if one))}</p>'


def _choice(choice: Choice | None) -> str:
    if choice is None:
        return ""
    label, reason = html.escape(choice.label), html.escape(choice.reason)
    return f'<div class="choice"><p><strong>{label}</strong></p><p>{reason}</p></div>'


def _refused(frame: pd.DataFrame) -> str:
    rows = frame[frame.reason != ""]
    if rows.empty:
        return ""
    axes = ["label", "where", "execution", "reason", "remedy"]
    grouped = rows.groupby(axes, sort=False).batch.agg(lambda sizes: ", ".join(map(str, sizes))).reset_index()
    order = ["label", "where", "batch", "execution", "reason", "remedy"]
    table = grouped[order].rename(
        columns={"label": "recipe", "where": "runtime", "batch": "batches", "execution": "how it ran"}
    )
    return _heading("What could not be run here, and what would make it possible", _table(table, "left"))


def _notes(measurements: Iterable[Measurement]) -> str:
    """Every note once, with the engines and batches that it is about."""
    about: dict[str, dict[str, list[str]]] = {}
    for m in measurements:
        name = " ".join(filter(None, (m.recipe.label, "on", m.backend, m.card)))
        for note in m.notes:
            about.setdefault(note, {}).setdefault(name, []).append(str(m.batch))
    items = ""
    for note, rows in about.items():
        names = (f"{name} (batch {', '.join(batches)})" for name, batches in rows.items())
        items += f"<li>{html.escape('; '.join(names))}: {html.escape(note)}</li>"
    return _heading("Notes", f"<ul>{items}</ul>") if items else ""


def _facts(environment: Mapping) -> pd.DataFrame:
    rows = [(name, str(value)) for name, value in environment.items() if name not in ("interleaved", "turns")]
    return pd.DataFrame(rows, columns=["what", "found"])


def _table(frame: pd.DataFrame, kind: str = "cells") -> str:
    return f'<div class="scroll">{as_html(frame, index=False, classes=kind)}</div>'


def _heading(text: str, body: str) -> str:
    return f"<h2>{html.escape(text)}</h2>\n{body}"


def _write(path: Path, title: str, body: str) -> None:
    """Replace the file in one step, so that nobody opens half a report."""
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{html.escape(title)}</title><style>{STYLE}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )
    with new_file(path) as draft:
        draft.write_text(page, encoding="utf-8")
