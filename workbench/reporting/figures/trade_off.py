"""Accuracy against throughput or energy, with the Pareto front."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from ...studies import choice as choosing
from .labels import label_places, log_ticks, padded
from .theme import COLOURS, error_bars, ink, marker, need_columns, new_figure, page, short

_COLUMNS = ("label", "precision", "where", "batch", "execution", "images_per_second", "top1")
#: Column -> what is weighed against accuracy, and the title of its axis.
_AXES = {
    "images_per_second": ("throughput", "throughput (images/s, higher is better)"),
    "joules_per_image": ("energy", "energy (J per image, lower is better)"),
}


def has_energy(frame: pd.DataFrame) -> bool:
    """Whether the energy of any row was measured, so that it can be an axis."""
    return bool(frame.joules_per_image.notna().any())


def pareto(
    frame: pd.DataFrame,
    choice=None,
    max_drop: float | None = None,
    batch: int | None = None,
    against: str = "images_per_second",
) -> go.Figure:
    """Top-1 over throughput or energy: one point per cell, and the Pareto front as a line.

    Bars are 95 % intervals of what is compared with FP32: across of the speed-up, where the frame has its interval;
    up and down of the accuracy lost or won, paired image by image. The energy of a cell is one reading of a counter
    and has no bar.

    Args:
        frame: what ``Study.with_intervals`` returns, or ``Study.frame``; rows that were not run are left out.
        choice: what ``Study.choose`` returned, to be ringed.
        max_drop: points of top-1 that may be lost against FP32, drawn as a line.
        batch: show this batch size only.
        against: ``images_per_second``, or ``joules_per_image`` for the rows whose energy was measured.
    """
    need_columns(frame, *_COLUMNS, against)
    rows = _compared(choosing.candidates(frame, batch))
    rows = rows[rows[against].notna()]
    need_columns(rows, *_COLUMNS)
    what, title = _AXES[against]
    figure = new_figure(
        f"Accuracy against {what}<br><sup>{int(rows.images.max()):,} images, {_batches(rows)}</sup>",
        title,
        "top-1 accuracy (%)",
    )
    _add_front(figure, choosing.pareto(rows, against=against), against)
    _add_points(figure, rows, against)
    if max_drop is not None:
        _add_limit(figure, rows, max_drop)
    if choice is not None and not math.isnan(choice.row[against]):
        _add_ring(figure, choice.row, against)
    return figure


def _compared(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, their intervals of throughput and accuracy replaced by those of the comparison with FP32."""
    base, reference = rows.images_per_second / rows.speedup, rows.top1 + rows.drop_points / 100
    ends = {
        "images_per_second_low": base * rows.speedup_low,
        "images_per_second_high": base * rows.speedup_high,
        "top1_low": reference - rows.drop_points_high / 100,
        "top1_high": reference - rows.drop_points_low / 100,
    }
    own = {"images_per_second_low": rows.images_per_second, "images_per_second_high": rows.images_per_second}
    own |= {"top1_low": rows.top1, "top1_high": rows.top1}
    rows = rows.assign(joules_per_image_low=rows.joules_per_image, joules_per_image_high=rows.joules_per_image)
    return rows.assign(
        **{f"run_{name}": rows[name] for name in ends}, **{n: e.fillna(own[n]) for n, e in ends.items()}
    )


def _batches(rows: pd.DataFrame) -> str:
    sizes = sorted(set(rows.batch))
    return f"batch {sizes[0]}" if len(sizes) == 1 else f"batches {', '.join(map(str, sizes))} (at the points)"


def _add_front(figure: go.Figure, front: pd.DataFrame, against: str) -> None:
    figure.add_scatter(
        x=front[against],
        y=100 * front.top1,
        mode="lines",
        line={"color": ink(), "width": 1.2, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
        name="Pareto front",
    )


def _add_points(figure: go.Figure, rows: pd.DataFrame, against: str) -> None:
    """A trace per recipe and runtime: its batch sizes joined by a thin line, its name at the fastest."""
    rows = rows.assign(place="", text=_texts(rows)).sort_values("batch")
    rows["place"] = _places(figure, rows, against)
    for _, group in rows.groupby(["precision", "label", "where", "execution"], sort=False):
        precision, emulated = group.precision.iloc[0], group.execution.iloc[0] == "emulated"
        figure.add_scatter(
            x=group[against],
            y=100 * group.top1,
            error_x=error_bars(group, against),
            error_y=error_bars(group, "top1", 100),
            mode="lines+markers+text",
            line={"color": COLOURS[precision], "width": 1},
            marker=marker(precision, emulated),
            text=group.text,
            textposition=group.place,
            cliponaxis=False,
            hovertext=[hover(row) for row in group.to_dict("records")],
            hovertemplate="%{hovertext}<extra></extra>",
            name=_name(group.iloc[0], rows),
        )


def _name(row, rows: pd.DataFrame) -> str:
    where = f" on {row['where']}" if rows["where"].nunique() > 1 else ""
    return row.label + where + (" (emulated)" if row.execution == "emulated" else "")


def _texts(rows: pd.DataFrame) -> list[str]:
    """At each point its batch size; at the fastest of a recipe the recipe's name before it."""
    fastest = rows.groupby(["label", "where", "execution"]).images_per_second.transform("max")
    batches = [f"{batch}" if rows.batch.nunique() > 1 else "" for batch in rows.batch]
    named = rows.images_per_second == fastest
    return [
        ", ".join(filter(None, (label, batch))) if first else batch
        for label, batch, first in zip(rows.label, batches, named)
    ]


def _places(figure: go.Figure, rows: pd.DataFrame, against: str) -> list[str]:
    """Fix the ranges of the axes, and place each label where it covers no other."""
    y_range = padded(100 * rows.top1_low.min(), 100 * rows.top1_high.max(), 0.04)
    low, high = rows[f"{against}_low"].min(), rows[f"{against}_high"].max()
    log = high > 8 * low
    drawn = math.log10 if log else float
    x_range = padded(drawn(low), drawn(high))
    figure.update_xaxes(**({"type": "log", **log_ticks(x_range)} if log else {}), range=x_range)
    figure.update_yaxes(range=y_range)
    points = [(drawn(x), 100 * y) for x, y in zip(rows[against], rows.top1)]
    return label_places(points, list(rows.text), x_range, y_range)


def _add_limit(figure: go.Figure, rows: pd.DataFrame, max_drop: float) -> None:
    """The lowest accuracy allowed; every row's drop is against the same reference."""
    row = rows.iloc[0]
    floor = 100 * row.top1 + row.drop_points - max_drop
    figure.add_hline(
        y=floor,
        line={"color": ink(), "width": 1, "dash": "dash"},
        annotation_text=f"FP32 − {max_drop:g} points",
        annotation_position="bottom left",
        annotation_bgcolor=page(),
    )


def _add_ring(figure: go.Figure, row, against: str) -> None:
    figure.add_scatter(
        x=[row[against]],
        y=[100 * row["top1"]],
        mode="markers",
        marker={"symbol": "circle-open", "size": 26, "color": ink(), "line": {"width": 2}},
        hoverinfo="skip",
        name="chosen",
    )


def hover(row: dict) -> str:
    """All measured values of a cell, as the lines of a hover box."""
    lines = [
        f"<b>{row['label']}</b> on {row['where']}, batch {row['batch']} ({row['execution']})",
        f"{row['images_per_second']:,.1f} images/s (95 % of the run {_of_run(row, 'images_per_second_low'):,.1f} to"
        f" {_of_run(row, 'images_per_second_high'):,.1f})",
        f"latency {short(row['p50_ms'])} ms median, {short(row['p90_ms'])} ms p90, {short(row['p99_ms'])} ms p99",
        f"top-1 {row['top1']:.2%} (95 % {_of_run(row, 'top1_low'):.2%} to {_of_run(row, 'top1_high'):.2%}) on"
        f" {row['images']:,.0f} images",
        f"{row['drop_points']:.2f} points lost against FP32 (95 % {row['drop_points_low']:.2f} to"
        f" {row['drop_points_high']:.2f})",
        f"same class as FP32 on {row['agreement']:.2%}",
        f"memory {row['memory_mib']:,.0f} MiB, engine {row['engine_mib']:,.1f} MiB, built in"
        f" {row['build_s']:.1f} s",
    ]
    if math.isfinite(row["speedup"]):
        interval = (
            ""
            if math.isnan(row["speedup_low"])
            else f" (95 % {row['speedup_low']:.2f} to {row['speedup_high']:.2f})"
        )
        lines.insert(2, f"{row['speedup']:.2f} × FP32 on ONNX Runtime at this batch{interval}")
    if math.isfinite(row["joules_per_image"]):
        lines.append(f"{short(row['joules_per_image'])} J per image")
    return "<br>".join(lines)


def _of_run(row: dict, name: str) -> float:
    """The interval of the row's own run, where the row has that of the comparison as well."""
    return row.get(f"run_{name}", row[name])
