"""What each block and role of a model costs or loses, as colours: one number, or several with a button each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .theme import COLOURS, PAGES, SCALE, need_columns, new_figure


class View(NamedTuple):
    """One colouring: ``frame`` has ``block``, ``role`` and the column ``value``.

    Numbers are coloured from small to large, names of precisions by ``COLOURS``. ``better`` is ``lower`` or
    ``higher``, written beside the colours; it is empty where neither is better.
    """

    frame: pd.DataFrame
    value: str
    unit: str = ""
    better: str = ""


def heat_map(frame: pd.DataFrame, value: str, title: str, unit: str = "", better: str = "") -> go.Figure:
    """One number per block and role, as colour and as text.

    Args:
        frame: ``block``, ``role`` and the column ``value``; one row each. Missing pairs stay empty.
        value: the column to draw.
        title: of the figure.
        unit: of the value.
        better: as in ``View``.
    """
    need_columns(frame, "block", "role", value)
    table = _table(frame, value, list(frame.block.unique()), list(frame.role.unique()))
    figure = new_figure(title, "", "", height=110 + 34 * len(table), margin={"b": 20})
    figure.add_trace(_numbers(table, value.replace("_", " "), unit, better))
    return _with_blocks_downwards(figure)


def block_views(views: Mapping[str, View], title: str = "Blocks and roles") -> go.Figure:
    """One map of blocks and roles with a button for each of several colourings.

    Args:
        views: the text of a button -> what it shows, such as time, FLOP, precision, numeric error or sensitivity.
            All views have the same rows and columns; a pair that is missing in a view is empty there.
        title: of the figure.
    """
    for view in views.values():
        need_columns(view.frame, "block", "role", view.value)
    pairs = pd.concat([view.frame[["block", "role"]] for view in views.values()])
    blocks, roles = list(pairs.block.unique()), list(pairs.role.unique())
    figure = new_figure(title, "", "", height=170 + 34 * len(blocks))
    for number, (label, view) in enumerate(views.items()):
        table = _table(view.frame, view.value, blocks, roles)
        numeric = pd.api.types.is_numeric_dtype(view.frame[view.value])
        trace = _numbers(table, label, view.unit, view.better) if numeric else _names(table, label)
        figure.add_trace(trace.update(visible=number == 0))
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
    return _with_blocks_downwards(figure)


def _table(frame: pd.DataFrame, value: str, blocks: Sequence[str], roles: Sequence[str]) -> pd.DataFrame:
    return frame.pivot(index="block", columns="role", values=value).reindex(index=blocks, columns=roles)


def _with_blocks_downwards(figure: go.Figure) -> go.Figure:
    """The first block at the top, the roles above it."""
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    figure.update_xaxes(showgrid=False, side="top", ticks="")
    return figure


def _numbers(table: pd.DataFrame, label: str, unit: str, better: str) -> go.Heatmap:
    values = table.to_numpy(float)
    title = f"{label} ({unit})" if unit else label
    return _map(table, label, np.vectorize(lambda v: "" if np.isnan(v) else f"{v:.3g}")(values)).update(
        z=values,
        colorscale=SCALE,
        reversescale=False,
        hovertemplate=f"%{{y}}/%{{x}}<br>{label} %{{z:.4g}} {unit}<extra></extra>",
        colorbar={"title": {"text": f"{title}<br>{better} is better" if better else title, "side": "right"}},
    )


def _names(table: pd.DataFrame, label: str) -> go.Heatmap:
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
