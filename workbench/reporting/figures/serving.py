"""A service over time: which model answered how many images, and how long a request took."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .theme import ink, need_columns, short, template_name

#: Model -> its name in the legend, its colour and the pattern of its area, which differ in grey print too.
_MODELS = {
    "engine": ("by the engine", "#1F60B0", ""),
    "original": ("by the original", "#C84418", "/"),
}
_COLUMNS = ("end_s", "active", "engine", "original", "median_ms", "p99_ms", "answered", "failed")


def service_timeline(frame: pd.DataFrame) -> go.Figure:
    """Throughput by the model that answered, and the latency of requests, over the seconds of a run.

    Args:
        frame: one row per interval, the fields of ``deployment.traffic.Interval``.
    """
    need_columns(frame, *_COLUMNS)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    answered, failed = int(frame.answered.sum()), int(frame.failed.sum())
    title = f"The service over time<br><sup>{answered:,} requests answered, {failed:,} not</sup>"
    figure.update_layout(template=template_name(), title_text=title, height=520)
    _add_throughput(figure, frame)
    _add_latency(figure, frame)
    _mark_changes(figure, frame)
    figure.update_xaxes(title_text="seconds since the start", row=2, range=[0, frame.end_s.max()])
    return figure


def _add_throughput(figure: go.Figure, frame: pd.DataFrame) -> None:
    for model, (name, colour, pattern) in _MODELS.items():
        figure.add_scatter(
            x=[0, *frame.end_s],
            y=[frame[model].iloc[0], *frame[model]],
            stackgroup="images",
            line={"shape": "vh", "width": 0.5, "color": colour},
            fillcolor=colour if not pattern else None,
            fillpattern={"shape": pattern, "fgcolor": colour, "bgcolor": "rgba(0,0,0,0)"} if pattern else None,
            hovertext=[f"{short(value)} images/s {name}" for value in [frame[model].iloc[0], *frame[model]]],
            hovertemplate="%{hovertext}<extra></extra>",
            name=name,
            row=1,
            col=1,
        )
    figure.update_yaxes(title_text="images/s", rangemode="tozero", row=1)


def _add_latency(figure: go.Figure, frame: pd.DataFrame) -> None:
    for column, name, dash in (("median_ms", "median", "solid"), ("p99_ms", "p99", "dot")):
        figure.add_scatter(
            x=frame.end_s,
            y=frame[column],
            mode="lines+markers",
            line={"color": ink(), "width": 1.5, "dash": dash},
            marker={"size": 4},
            hovertemplate=f"%{{y:.3g}} ms {name}<extra></extra>",
            name=f"{name} of a request",
            row=2,
            col=1,
        )
    figure.update_yaxes(title_text="latency (ms)", rangemode="tozero", row=2)


def _mark_changes(figure: go.Figure, frame: pd.DataFrame) -> None:
    """A line where another model begins to answer."""
    changed = frame[frame.active.ne(frame.active.shift()).mask(frame.index == frame.index[0], False)]
    for end, active in zip(changed.end_s, changed.active):
        figure.add_vline(
            x=end,
            line={"dash": "dash", "width": 1, "color": ink()},
            annotation_text=f"{active} from here",
            annotation_position="top left" if end > frame.end_s.max() / 2 else "top right",
            row=1,
            col=1,
        )
