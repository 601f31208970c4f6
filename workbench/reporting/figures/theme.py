"""One palette and one template: a colour and a symbol per precision, distinct in grey and for colour-blind eyes."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio

from ...errors import WorkbenchError

#: Precision -> colour. The lightness (CIE L*) of any two differs by 6.5 or more, so that they differ in grey print;
#: every one stands off a white and a near-black page.
COLOURS = {
    "fp16": "#1F60B0",
    "int8": "#C84418",
    "fp32": "#8D949C",
    "fp8": "#3EB98A",
    "bf16": "#8CD2FB",
    "int8-dynamic": "#F6DD3B",
    "mxfp8": "#9F69D4",
    "nvfp4": "#901E73",
    "w8": "#D1B37F",
    "w4": "#364701",
    "wfp4": "#0E00AD",
}
#: Precision -> the shape of its marker.
SYMBOLS = {
    "fp16": "square",
    "int8": "x",
    "fp32": "circle",
    "fp8": "triangle-up",
    "bf16": "diamond",
    "int8-dynamic": "triangle-down",
    "mxfp8": "pentagon",
    "nvfp4": "star",
    "w8": "cross",
    "w4": "hexagram",
    "wfp4": "hourglass",
}
#: Small to large, for heat maps: lightness falls steadily, so the order is visible in grey (ColorBrewer's YlGnBu).
SCALE = "YlGnBu"
FONT = "system-ui, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif"
#: Plotly's settings for a figure on a page. Fewer buttons above it, because the Tab key stops at each of them.
CONFIG = {"responsive": True, "displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d"]}
#: Page, ink and grid of a light and of a dark page.
PAGES = {
    "workbench": ("#FFFFFF", "#22262B", "#E3E6EA"),
    "workbench-dark": ("#15181C", "#E4E7EB", "#32383F"),
}


def _template(page: str, ink: str, grid: str) -> go.layout.Template:
    axis = {
        "gridcolor": grid,
        "linecolor": ink,
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": grid,
        "automargin": True,
        "title": {"standoff": 12},
    }
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 13, "color": ink},
            "title": {"x": 0, "xref": "paper", "xanchor": "left", "font": {"size": 16}},
            "paper_bgcolor": page,
            "plot_bgcolor": page,
            "colorway": tuple(COLOURS.values()),  # for what has no precision
            "xaxis": axis,
            "yaxis": axis,
            "hoverlabel": {"align": "left", "font": {"family": FONT}},
            # below the axis, where a narrow page has room for several rows
            "legend": {"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0},
            "margin": {"l": 70, "r": 40, "t": 60, "b": 60},
        }
    )


for _name, _colours in PAGES.items():
    pio.templates[_name] = _template(*_colours)


def new_figure(title: str, x: str, y: str, height: int = 460, **layout) -> go.Figure:
    """An empty figure in the template in use; ``x`` and ``y`` name the axes with their units."""
    figure = go.Figure()
    figure.update_layout(template=template_name(), title_text=title, height=height, **layout)
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y)
    return figure


def template_name() -> str:
    """The light template, unless Plotly's default was set to the dark one."""
    return pio.templates.default if pio.templates.default in PAGES else "workbench"


def ink() -> str:
    """The colour of text and outlines on the page in use."""
    return PAGES[template_name()][1]


def page() -> str:
    """The colour of the page in use."""
    return PAGES[template_name()][0]


def marker(precision: str, emulated: bool = False, size: int = 13) -> dict:
    """Colour and shape of a precision; what was emulated is hollow."""
    colour, symbol = COLOURS[precision], SYMBOLS[precision]
    if emulated:
        return {"symbol": f"{symbol}-open", "color": colour, "size": size, "line": {"width": 2.5}}
    return {"symbol": symbol, "color": colour, "size": size, "line": {"width": 1, "color": ink()}}


def error_bars(rows: pd.DataFrame, column: str, scale: float = 1.0) -> dict:
    """Bars from ``<column>_low`` to ``<column>_high`` around ``column``, all times ``scale``."""
    return {
        "type": "data",
        "symmetric": False,
        "array": scale * (rows[f"{column}_high"] - rows[column]),
        "arrayminus": scale * (rows[column] - rows[f"{column}_low"]),
        "thickness": 1,
        "width": 3,
        "color": "rgba(128,128,128,0.75)",
    }


def short(value: float) -> str:
    """Three digits, and no exponent for large numbers."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def need_columns(frame: pd.DataFrame, *names: str) -> None:
    """Refuse a frame without rows or without a column that a figure draws."""
    missing = [name for name in names if name not in frame.columns]
    if missing or frame.empty:
        raise WorkbenchError(
            "There is nothing to draw",
            why=f"the frame has no column {', '.join(missing)}" if missing else "the frame has no rows",
            remedy=f"give a frame with rows and the columns {', '.join(names)}",
        )
