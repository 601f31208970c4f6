"""The values that activations take, and the ranges that each calibration method finds for them."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .theme import COLOURS, ink, need_columns, page, template_name


def ranges(histograms: pd.DataFrame, limits: pd.DataFrame, title: str = "Ranges of activations") -> go.Figure:
    """What values activations take, and where each calibration method cuts them off.

    Args:
        histograms: ``tensor``, ``left`` and ``right`` (edges of a bin), ``count``.
        limits: ``tensor``, ``method``, ``limit``: values beyond ±limit are clipped.
        title: of the figure.
    """
    need_columns(histograms, "tensor", "left", "right", "count")
    need_columns(limits, "tensor", "method", "limit")
    tensors = list(dict.fromkeys(histograms.tensor))
    figure = make_subplots(rows=len(tensors), cols=1, subplot_titles=tensors, vertical_spacing=0.32 / len(tensors))
    figure.update_layout(template=template_name(), title_text=title, height=120 + 230 * len(tensors), bargap=0)
    figure.update_yaxes(title_text="values", type="log")
    figure.update_xaxes(title_text="activation", row=len(tensors), col=1)
    for row, tensor in enumerate(tensors, 1):
        _add_histogram(figure, histograms[histograms.tensor == tensor], row)
        for number, limit in enumerate(limits[limits.tensor == tensor].sort_values("limit").itertuples()):
            _add_limit(figure, limit, row, number)
    figure.update_annotations(
        x=0, xanchor="left", selector={"yanchor": "bottom", "showarrow": False, "xref": "paper"}
    )
    return figure


def _add_histogram(figure: go.Figure, bins: pd.DataFrame, row: int) -> None:
    figure.add_bar(
        x=(bins.left + bins.right) / 2,
        y=bins["count"],
        width=bins.right - bins.left,
        marker={"color": COLOURS["fp32"], "line": {"width": 0}},
        hovertemplate="%{x:.4g}: %{y:,} values<extra></extra>",
        showlegend=False,
        row=row,
        col=1,
    )


#: Calibration method -> colour and dash.
METHODS = {
    "minmax": (COLOURS["fp16"], "solid"),
    "percentile": (COLOURS["int8"], "dash"),
    "entropy": (COLOURS["fp8"], "dot"),
    "mse": (COLOURS["bf16"], "dashdot"),
}


def _add_limit(figure: go.Figure, limit, row: int, number: int) -> None:
    colour, dash = METHODS.get(limit.method, (ink(), "solid"))
    for sign in (-1, 1):
        figure.add_vline(x=sign * limit.limit, line={"color": colour, "dash": dash, "width": 2}, row=row, col=1)
    figure.add_annotation(
        x=limit.limit,
        y=0.98 - 0.17 * number,
        yref="y domain" if row == 1 else f"y{row} domain",
        xref="x" if row == 1 else f"x{row}",
        text=f" {limit.method} ±{limit.limit:.3g}",
        showarrow=False,
        xanchor="left",
        bgcolor=page(),
        font={"color": ink(), "size": 12},
    )
