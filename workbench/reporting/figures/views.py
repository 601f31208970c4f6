"""The blocks and roles of a model under several colours, one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .theme import COLOURS, PAGES, SCALE, need_columns, new_figure


class View(NamedTuple):
    """One colouring: ``frame`` has ``block``, ``role`` and the column ``value``.

    Numbers are coloured from small to large, names of precisions by ``COLOURS``.
    """

    frame: pd.DataFrame
    value: str
    unit: str = ""
    better: str = ""


def block_views(views: Mapping[str, View], title: str = "Blocks and roles") -> go.Figure:
    """One map of blocks and roles with a button for each of several colours.

    Args:
        views: the text of a button -> what it shows, such as time, FLOP, precision, numeric error or sensitivity.
            All views have the same rows and columns; a pair that is missing in a view is empty there.
        title: of the figure.
    """
    for view in views.values():
        need_columns(view.frame, "block", "role", view.value)
    blocks = list(dict.fromkeys(block for view in views.values() for block in view.frame.block))
    roles = list(dict.fromkeys(role for view in views.values() for role in view.frame.role))
    figure = new_figure(title, "", "", height=170 + 34 * len(blocks))
    for number, (label, view) in enumerate(views.items()):
        table = view.frame.pivot(index="block", columns="role", values=view.value).reindex(blocks, columns=roles)
        draw = _numbers if pd.api.types.is_numeric_dtype(view.frame[view.value]) else _names
        figure.add_trace(draw(table, label, view).update(visible=number == 0))
    buttons = [
        {"label": label, "method": "restyle", "args": [{"visible": [other == label for other in views]}]}
        for label in views
    ]
    light, dark, edge = PAGES["workbench"]  # on a dark page too: Plotly's pressed button is always light
    place = {"x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"b": 34}}
    colours = {"bgcolor": light, "bordercolor": edge, "font": {"color": dark}}
    menu = {"type": "buttons", "direction": "right", "buttons": buttons, **place, **colours}
    figure.update_layout(updatemenus=[menu], margin={"t": 120, "b": 20})
    figure.update_layout(title={"yref": "container", "y": 0.97, "yanchor": "top"})
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    figure.update_xaxes(showgrid=False, side="top", ticks="")
    return figure


def _numbers(table: pd.DataFrame, label: str, view: View) -> go.Heatmap:
    values = table.to_numpy(float)
    title = " ".join(filter(None, (label, f"({view.unit})" if view.unit else "")))
    return _map(table, label, np.vectorize(lambda v: "" if np.isnan(v) else f"{v:.3g}")(values)).update(
        z=values,
        colorscale=SCALE,
        hovertemplate=f"%{{y}}/%{{x}}<br>{label} %{{z:.4g}} {view.unit}<extra></extra>",
        colorbar={
            "title": {"text": f"{title}<br>{view.better} is better" if view.better else title, "side": "right"}
        },
    )


def _names(table: pd.DataFrame, label: str, view: View) -> go.Heatmap:
    """Each precision in its own colour, all other names in grey."""
    known = [*COLOURS, "other"]
    colours = [*COLOURS.values(), "#D9DCE0"]
    codes = table.map(lambda name: np.nan if pd.isna(name) else known.index(name if name in COLOURS else "other"))
    steps = [(edge / len(known), colour) for i, colour in enumerate(colours) for edge in (i, i + 1)]
    return _map(table, label, table.astype(object).fillna("").to_numpy()).update(
        z=codes.to_numpy(float),
        zmin=-0.5,
        zmax=len(known) - 0.5,
        colorscale=steps,
        showscale=False,
        hovertemplate=f"%{{y}}/%{{x}}<br>{label} %{{text}}<extra></extra>",
    )


def _map(table: pd.DataFrame, label: str, text) -> go.Heatmap:
    return go.Heatmap(
        x=list(table.columns),
        y=list(table.index),
        text=text,
        texttemplate="%{text}",
        xgap=2,
        ygap=2,
        hoverongaps=False,
        name=label,
    )
