"""Latency and throughput: the spread of single calls, and curves over the batch and over streams."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ...records import quantile
from .labels import label_lines
from .theme import COLOURS, error_bars, ink, marker, need_columns, new_figure, short, template_name
from .trade_off import hover

#: How the lines of 1, 2, 4, 8 and more streams differ, in grey print too.
DASHES_AND_SYMBOLS = (
    ("solid", "circle"),
    ("dash", "square"),
    ("dot", "diamond"),
    ("dashdot", "triangle-up"),
    ("longdash", "cross"),
)
PERCENTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99}


def latency_distribution(frame: pd.DataFrame) -> go.Figure:
    """How the latency of single calls spreads: a strip per engine, a point per call, median, p90 and p99 marked.

    Args:
        frame: one row per call: ``label``, ``precision``, ``latency_ms``; ``Study.latencies`` makes it.
    """
    need_columns(frame, "label", "precision", "latency_ms")
    groups = list(frame.groupby(["label", "precision"], sort=False).latency_ms)
    figure = new_figure(
        "Latency of single calls", "latency (ms, lower is better)", "", height=150 + 80 * len(groups)
    )
    for (label, precision), values in groups:
        _add_strip(figure, label, precision, values)
    end = 1.4 * max(quantile(list(values), PERCENTILES["p99"]) for _, values in groups)
    beyond = int((frame.latency_ms > end).sum())
    figure.update_xaxes(range=[0, min(end, 1.02 * frame.latency_ms.max())])
    if beyond:
        longest = f"{beyond} of {len(frame):,} calls took longer, the longest {short(frame.latency_ms.max())} ms"
        figure.update_xaxes(title_text=f"latency (ms, lower is better); {longest}")
    figure.update_yaxes(range=[len(groups) - 0.5, -0.9], ticks="")
    return figure


def _add_strip(figure: go.Figure, label: str, precision: str, values: pd.Series) -> None:
    """The distribution of one engine's latencies (ms), with its percentiles as marks."""
    found = {name: quantile(list(values), share) for name, share in PERCENTILES.items()}
    median, *rest = (f"{name} {short(value)} ms" for name, value in found.items())
    strip = f"{label}<br>{median}<br>{', '.join(rest)}"
    figure.add_violin(
        x=values,
        y=[strip] * len(values),
        orientation="h",
        side="negative",  # upwards, because the axis runs downwards
        width=1.4,
        points="all",
        pointpos=0.25,
        jitter=0.2,
        marker={"size": 3, "color": COLOURS[precision], "opacity": 0.6, "line": {"width": 0.3, "color": ink()}},
        spanmode="hard",
        line={"color": ink(), "width": 1},
        fillcolor=COLOURS[precision],
        opacity=0.85,
        hoverinfo="skip",
        showlegend=False,
        name=label,
    )
    figure.add_scatter(
        x=list(found.values()),
        y=[strip] * len(found),
        mode="markers",
        marker={"symbol": "line-ns", "size": [18, 13, 8], "line": {"width": 2, "color": ink()}},
        hovertext=[f"{label}: {name} {v:.4g} ms of {len(values):,} calls" for name, v in found.items()],
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
        name=f"{label} percentiles",
    )


def throughput_over_batch(frame: pd.DataFrame) -> go.Figure:
    """Throughput over the batch size, a line per recipe and runtime, with bars for how it varied.

    Args:
        frame: what ``Study.frame`` returns; rows that were not timed are left out.
    """
    need_columns(frame, "label", "precision", "where", "batch", "images_per_second")
    rows = frame[frame.images_per_second.notna()].sort_values("batch")
    need_columns(rows, "label")
    figure = new_figure("Throughput over the batch size", "batch (images per call)", "throughput (images/s)")
    several, ends = rows["where"].nunique() > 1, []
    for _, line in rows.groupby(["label", "where", "execution"], sort=False):
        first = line.iloc[0]
        name = f"{first.label} on {first['where']}" if several else first.label
        texts = [hover(row) for row in line.to_dict("records")]
        emulated = first.execution == "emulated"
        _add_line(figure, line, "batch", "images_per_second", name, texts, emulated=emulated)
        ends.append((math.log10(line.batch.iloc[-1]), line.images_per_second.iloc[-1], name))
    top = 1.08 * max(rows.images_per_second.max(), rows.images_per_second_high.max())
    label_lines(figure, ends, top, height=330)
    batches = sorted(set(rows.batch))
    figure.update_xaxes(type="log", tickvals=batches, ticktext=[str(b) for b in batches])
    figure.update_yaxes(range=[0, top])
    return figure


def throughput_over_streams(frame: pd.DataFrame, knee: int | None = None) -> go.Figure:
    """Throughput and p99 latency over the number of streams that call at the same time.

    Args:
        frame: ``label``, ``precision``, ``streams``, ``images_per_second``, ``p99_ms``; there are bars for how it
            varied where ``images_per_second_low`` and ``images_per_second_high`` are known.
        knee: the number of streams beyond which more gain little; see ``measuring.diminishing_returns``.
    """
    need_columns(frame, "label", "precision", "streams", "images_per_second", "p99_ms")
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.18)
    figure.update_layout(template=template_name(), title_text="Several streams at once", height=430)
    figure.update_xaxes(title_text="streams", tickvals=sorted(set(frame.streams)))
    values, ends = ("images_per_second", "p99_ms"), []
    for _, line in frame.sort_values("streams").groupby("label", sort=False):
        label = line.label.iloc[0]
        texts = [_hover_streams(row) for row in line.to_dict("records")]
        for column, value in enumerate(values, 1):
            _add_line(figure, line, "streams", value, label, texts, row=1, col=column)
        ends.append((line.streams.iloc[-1], line.p99_ms.iloc[-1], label))
    label_lines(figure, ends, 1.08 * frame.p99_ms.max(), height=290, xref="x2", yref="y2")
    titles = "throughput (images/s)", "p99 latency of a call (ms)"
    for column, (value, title) in enumerate(zip(values, titles), 1):
        most = frame[f"{value}_high" if f"{value}_high" in frame else value].max()
        figure.update_yaxes(title_text=title, range=[0, 1.08 * most], col=column)
    if knee is not None:
        _add_knee(figure, knee)
    return figure


def _add_knee(figure: go.Figure, knee: int) -> None:
    figure.add_vline(
        x=knee,
        line={"dash": "dash", "width": 1, "color": ink()},
        annotation_text=f"{knee} streams:<br>more gain<br>less than 5 %",
        annotation_position="bottom right",
        annotation_align="left",
        row=1,
        col=1,
    )


def _hover_streams(row: dict) -> str:
    low, high = row.get("images_per_second_low"), row.get("images_per_second_high")
    spread = f" (95 % of the run {low:,.1f} to {high:,.1f})" if low is not None and math.isfinite(low) else ""
    return (
        f"<b>{row['label']}</b>, {_streams(row['streams'])}<br>{row['images_per_second']:,.1f} images/s{spread}<br>"
        f"latency {short(row['p99_ms'])} ms p99"
    )


def throughput_over_latency(
    frame: pd.DataFrame, precision: str, best=None, max_latency_ms: float | None = None, *, waiting: bool = False
) -> go.Figure:
    """Throughput over the p99 latency of settings of batch and streams, with the batch at each point.

    Args:
        frame: what ``Tuning.frame`` returns; a setting that is not ``allowed`` is hollow.
        precision: of the engine, for its colour.
        best: the setting to ring, with ``batch`` and ``streams``.
        max_latency_ms: the limit, drawn as a line.
        waiting: whether the latency counts from an image's arrival.
    """
    need_columns(frame, "batch", "streams", "images_per_second", "p50_ms", "p99_ms", "allowed")
    what = "an image, waiting included" if waiting else "a call"
    figure = new_figure("Settings that were measured", f"p99 latency of {what} (ms)", "throughput (images/s)")
    for streams in sorted(map(int, set(frame.streams))):
        rows, (dash, symbol) = frame[frame.streams == streams].sort_values("batch"), _look(streams)
        symbols = [symbol + ("" if ok else "-open") for ok in rows.allowed]
        figure.add_scatter(
            x=rows.p99_ms,
            y=rows.images_per_second,
            mode="lines+markers+text",
            line={"color": COLOURS[precision], "width": 1.5, "dash": dash},
            marker={"symbol": symbols, "size": 11, "line": {"width": 1, "color": ink()}},
            text=[str(batch) for batch in rows.batch],
            textposition="top center",
            cliponaxis=False,
            hovertext=[_hover_setting(row) for row in rows.to_dict("records")],
            hovertemplate="%{hovertext}<extra></extra>",
            name=_streams(streams),
        )
    if max_latency_ms is not None:
        figure.add_vline(x=max_latency_ms, line={"dash": "dash", "width": 1, "color": ink()})
    if best is not None:
        _add_best(figure, frame[(frame.batch == best.batch) & (frame.streams == best.streams)])
    figure.update_xaxes(type="log")
    figure.update_yaxes(range=[0, 1.15 * frame.images_per_second.max()])
    figure.update_layout(showlegend=True)
    return figure


def _look(streams: int) -> tuple[str, str]:
    """The dash and the symbol of 1, 2, 3 to 4, 5 to 8, or more streams."""
    return DASHES_AND_SYMBOLS[min((streams - 1).bit_length(), len(DASHES_AND_SYMBOLS) - 1)]


def _hover_setting(row: dict) -> str:
    allowed = "" if row["allowed"] else "<br>not allowed"
    return (
        f"<b>batch {row['batch']}, {_streams(row['streams'])}</b><br>{row['images_per_second']:,.1f} images/s<br>"
        f"latency {short(row['p50_ms'])} ms median, {short(row['p99_ms'])} ms p99{allowed}"
    )


def _add_best(figure: go.Figure, row: pd.DataFrame) -> None:
    figure.add_scatter(
        x=row.p99_ms,
        y=row.images_per_second,
        mode="markers",
        marker={"symbol": "circle-open", "size": 26, "color": ink(), "line": {"width": 2}},
        hoverinfo="skip",
        name="chosen",
    )


def _streams(count: int) -> str:
    return "1 stream" if count == 1 else f"{count} streams"


def _add_line(figure, line, x: str, y: str, name: str, texts, emulated: bool = False, **place) -> None:
    """A line with markers, and error bars where the frame has the columns for them."""
    precision = line.precision.iloc[0]
    figure.add_scatter(
        x=line[x],
        y=line[y],
        error_y=error_bars(line, y) if f"{y}_low" in line else None,
        mode="lines+markers",
        line={"color": COLOURS[precision], "width": 2.5},
        marker=marker(precision, emulated, size=11),
        cliponaxis=False,
        hovertext=texts,
        hovertemplate="%{hovertext}<extra></extra>",
        name=name,
        showlegend=False,
        **place,
    )
