"""Where the time goes: attention over resolution, the roofline, and the difference between two engines."""

from __future__ import annotations

import math
import textwrap

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .labels import label_places, log_ticks, padded
from .theme import COLOURS, ink, marker, need_columns, new_figure

#: Part of a ViT -> colour and dash; the dash keeps them apart in grey.
PARTS = {
    "attention": (COLOURS["int8"], "solid"),
    "mlp": (COLOURS["fp16"], "dash"),
    "rest": (COLOURS["fp32"], "dot"),
    "whole": (COLOURS["fp8"], "longdash"),
}


def attention_cost(
    frame: pd.DataFrame, value: str = "ms", crossover: float | None = None, title: str = "Cost over resolution"
) -> go.Figure:
    """The cost of attention, MLP and rest over the edge of the image.

    Args:
        frame: ``image_size`` (pixels), ``part`` (a key of ``PARTS``) and the column ``value``; ``kind`` is
            ``measured`` (points), ``fitted`` or ``predicted`` (lines); ``low`` and ``high`` where there is any: the
            spread of a point, the confidence band of a line.
        value: the name of the column to draw, which is its unit too: ``ms``, ``GMAC``, ``MiB``.
        crossover: the image size at which attention overtakes the MLP.
        title: of the figure.
    """
    need_columns(frame, "image_size", "part", "kind", value)
    figure = new_figure(title, "edge of the image (pixels)", f"cost of one call ({value})")
    drawn_as_lines = set(frame.part[frame.kind != "measured"])
    for _, rows in frame.sort_values("image_size").groupby(["part", "kind"], sort=False):
        part, kind = rows.part.iloc[0], rows.kind.iloc[0]
        colour, dash = PARTS.get(part, (ink(), "solid"))
        points = kind == "measured"
        _add_cost(figure, rows, value, f"{part}, {kind}", colour, dash, points=points)
        # one entry for points and line of the same colour
        figure.data[-1].update(legendgroup=part, showlegend=not (points and part in drawn_as_lines))
    if crossover is not None:
        figure.add_vline(
            x=crossover,
            line={"dash": "dash", "width": 1, "color": ink()},
            annotation_text=f"attention overtakes the MLP at {crossover:,.0f} px",
            annotation_position="top left",
        )
    return figure


def marked_size(figure: go.Figure, image_size: int, tokens: int) -> go.Figure:
    """The figure of ``attention_cost`` with a line at one image size, named in pixels and tokens."""
    figure.add_vline(
        x=image_size,
        line={"width": 2, "color": ink()},
        annotation_text=f"{image_size:,} px, {tokens:,} tokens",
        annotation_position="top right",
        annotation_yshift=-20,  # below the crossover's own text
    )
    return figure


def _add_cost(figure, rows, value: str, name: str, colour: str, dash: str, points: bool) -> None:
    known = "low" in rows and rows.low.notna().any()
    spread = points and known
    if known and not points:
        _add_band(figure, rows, colour)
    error = {"type": "data", "symmetric": False, "width": 3, "thickness": 1}
    error |= {"array": rows.high - rows[value], "arrayminus": rows[value] - rows.low} if spread else {}
    figure.add_scatter(
        x=rows.image_size,
        y=rows[value],
        error_y=error if spread else None,
        mode="markers" if points else "lines",
        marker={"color": colour, "size": 9, "line": {"width": 1, "color": ink()}},
        line={"color": colour, "width": 2.5, "dash": dash},
        name=name,
        hovertemplate=f"{name}<br>%{{x}} px: %{{y:.4g}} {value}<extra></extra>",
    )


def _add_band(figure: go.Figure, rows: pd.DataFrame, colour: str) -> None:
    """A band of the line's own colour behind it; times below zero are not drawn."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    figure.add_scatter(
        x=[*rows.image_size, *rows.image_size[::-1]],
        y=[*rows.high, *rows.low.clip(lower=0)[::-1]],
        mode="lines",
        fill="toself",
        fillcolor=f"rgba({red}, {green}, {blue}, 0.15)",
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
    )


def roofline(points: pd.DataFrame, roofs: pd.DataFrame) -> go.Figure:
    """Measured products on the roofs of a machine (Williams, Waterman, Patterson, 2009, CACM 52(4):65-76).

    Args:
        points: ``label``, ``precision``, ``intensity`` (FLOP/byte), ``gflops`` (10⁹ FLOP/s).
        roofs: ``label``, ``precision``, ``peak_gflops``, ``bandwidth_gb_s`` (10⁹ bytes/s). Where ``cache_gb_s`` is
            known, a dotted slope shows what numbers in a cache allow.
    """
    need_columns(points, "label", "precision", "intensity", "gflops")
    need_columns(roofs, "label", "precision", "peak_gflops", "bandwidth_gb_s")
    figure = new_figure("Roofline", "arithmetic intensity (FLOP/byte)", "speed (GFLOP/s)", showlegend=False)
    ridges = roofs.peak_gflops / roofs.bandwidth_gb_s
    low = min(points.intensity.min(), ridges.min()) / 4
    high = max(points.intensity.max(), ridges.max()) * 6
    for roof in roofs.itertuples():
        _add_roof(figure, roof, low, high)
    x_range = math.log10(low), math.log10(high)
    fastest = max(points.gflops.max(), roofs.peak_gflops.max())
    slowest = min(points.gflops.min(), roofs.peak_gflops.min() / 10)  # a decade of slope at the least
    y_range = padded(math.log10(slowest), math.log10(fastest))
    where = list(zip(np.log10(points.intensity), np.log10(points.gflops)))
    places = label_places(where, list(points.label), x_range, y_range)
    figure.update_xaxes(type="log", range=x_range, dtick=1)
    figure.update_yaxes(type="log", range=y_range, **log_ticks(y_range))
    for (_, point), place in zip(points.iterrows(), places):
        figure.add_scatter(
            x=[point.intensity],
            y=[point.gflops],
            mode="markers+text",
            marker=marker(point.precision),
            text=[point.label],
            textposition=place,
            cliponaxis=False,
            name=point.label,
            hovertemplate=f"{point.label}<br>%{{x:.3g}} FLOP/byte<br>%{{y:,.4g}} GFLOP/s<extra></extra>",
        )
    return figure


def _add_roof(figure: go.Figure, roof, low: float, high: float) -> None:
    text = f"{roof.label}: {roof.peak_gflops:,.0f} GFLOP/s, {roof.bandwidth_gb_s:,.0f} GB/s"
    cache = getattr(roof, "cache_gb_s", math.nan)
    if cache > roof.bandwidth_gb_s:
        _add_limit(figure, roof, cache, low, high, f"from a cache: {cache:,.0f} GB/s", "dot")
        text += f", {cache:,.0f} GB/s from a cache (dotted)"
    _add_limit(figure, roof, roof.bandwidth_gb_s, low, high, text, "solid")
    figure.add_annotation(
        x=np.log10(high),
        y=np.log10(roof.peak_gflops),
        text=text,
        showarrow=False,
        xanchor="right",
        yanchor="bottom",
    )


def _add_limit(figure: go.Figure, roof, bandwidth: float, low: float, high: float, text: str, dash: str) -> None:
    """One slope and the flat roof that it leads to."""
    figure.add_scatter(
        x=[low, roof.peak_gflops / bandwidth, high],
        y=[low * bandwidth, roof.peak_gflops, roof.peak_gflops],
        mode="lines",
        line={"color": COLOURS[roof.precision], "width": 2.5, "dash": dash},
        name=roof.label,
        hovertemplate=f"{text}<extra></extra>",
    )


#: Letters of a step's name on one line under its bar.
STEP_WIDTH = 12


def waterfall(frame: pd.DataFrame, title: str, value: str = "ms") -> go.Figure:
    """How the time of one engine becomes that of another, step by step.

    Args:
        frame: ``step``, the column ``value``, and ``kind``: ``total`` for the first and last bar, ``change``
            between them.
        title: of the figure.
        value: the name of the column to draw, which is its unit too.
    """
    need_columns(frame, "step", "kind", value)
    figure = new_figure(title, "", f"time of a call ({value})", showlegend=False)
    total = frame.kind == "total"
    figure.add_waterfall(
        x=list(range(len(frame))),  # two engines may have one name
        y=frame[value],
        measure=["absolute" if one else "relative" for one in total],
        text=[f"{v:.3g}" if one else f"{v:+.3g}" for v, one in zip(frame[value], total)],
        textposition="outside",
        cliponaxis=False,
        increasing={"marker": {"color": COLOURS["int8"], "line": {"color": ink(), "width": 1}}},
        decreasing={"marker": {"color": COLOURS["fp8"], "line": {"color": ink(), "width": 1}}},
        totals={"marker": {"color": COLOURS["fp32"], "line": {"color": ink(), "width": 1}}},
        connector={"line": {"color": ink(), "width": 0.7, "dash": "dot"}},
        hovertext=[f"{step}<br>{v:.4g} {value}" for step, v in zip(frame.step, frame[value])],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    names = ["<br>".join(textwrap.wrap(step, STEP_WIDTH, break_on_hyphens=False)) for step in frame.step]
    figure.update_xaxes(tickvals=list(range(len(frame))), ticktext=names)
    figure.update_yaxes(rangemode="tozero")
    return figure
