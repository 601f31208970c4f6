"""One palette, one template: a colour and a symbol per precision, told apart in grey and by the colour-blind."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go
import plotly.io as pio

from ...errors import WorkbenchError

#: Precision -> colour. The lightness (CIE L*) of any two differs by 7 or more, so that a grey print keeps them
#: apart, and every one stands off a white and off a near-black page.
COLOURS = {
    "fp16": "#1B5FAA",
    "int8": "#C8471C",
    "fp32": "#858B92",
    "fp8": "#35B184",
    "bf16": "#7CC3EE",
    "int8-dynamic": "#F0CC3E",
}
#: Precision -> marker; the second mark of the same difference.
SYMBOLS = {
    "fp16": "square",
    "int8": "x",
    "fp32": "circle",
    "fp8": "triangle-up",
    "bf16": "diamond",
    "int8-dynamic": "triangle-down",
}
#: For what has no precision, such as the roles of a block: the palette in its order.
SEQUENCE = tuple(COLOURS.values())
#: Little to much, for heat maps: lightness falls steadily, so that grey keeps the order (ColorBrewer's YlGnBu).
SCALE = "YlGnBu"
FONT = "system-ui, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif"
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
            "colorway": SEQUENCE,
            "xaxis": axis,
            "yaxis": axis,
            "hoverlabel": {"align": "left", "font": {"family": FONT}},
            # below the axis, where more rows on a narrow page find room
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


def short(value: float) -> str:
    """Three digits, and no exponent for large numbers."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def need_columns(frame, *names: str) -> None:
    """Refuse a frame without rows or without a column that a figure draws."""
    missing = [name for name in names if name not in frame.columns]
    if missing or frame.empty:
        raise WorkbenchError(
            "There is nothing to draw",
            why=f"the frame has no column {', '.join(missing)}" if missing else "the frame has no rows",
            remedy=f"give a frame with rows and the columns {', '.join(names)}",
        )


#: Where a label can stand beside its point, best first: Plotly's name and the offset of its box in label sizes.
_PLACES = (
    ("middle right", 0.55, 0.0),
    ("middle left", -0.55, 0.0),
    ("top center", 0.0, 1.1),
    ("bottom center", 0.0, -1.1),
    ("top right", 0.5, 0.9),
    ("bottom right", 0.5, -0.9),
    ("top left", -0.5, 0.9),
    ("bottom left", -0.5, -0.9),
)


def padded(low: float, high: float, share: float = 0.08) -> tuple[float, float]:
    """A range with some room on both sides; around a single value, 1 % of it or 1."""
    room = share * (high - low) or abs(low) * 0.01 or 1.0
    return low - room, high + room


def log_ticks(shown: tuple[float, float]) -> dict:
    """Ticks of a logarithmic axis: decades; where there are few of them, 2 and 5 as well, written out."""
    if shown[1] - shown[0] > 2:
        return {"dtick": 1}
    decades = range(math.floor(shown[0]), math.ceil(shown[1]) + 1)
    return {"tickvals": [digit * 10.0**power for power in decades for digit in (1, 2, 5)]}


def label_places(
    points, labels: Sequence[str], x_range, y_range, width: float = 880, height: float = 340
) -> list[str]:
    """Where each label stands so that it covers no other label or point, as far as there is room.

    Args:
        points: (x, y) of each point, in the units in which the axes are drawn (logarithms for a logarithmic axis).
        labels: the text at each point.
        x_range: what the axis shows, (low, high).
        y_range: the same for the other axis.
        width: of the plotting area in pixels.
        height: the same.

    Returns:
        A Plotly ``textposition`` per point. Greedy, in the order given.
    """
    pixels = [(_scaled(x, x_range, width), _scaled(y, y_range, height)) for x, y in points]
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in pixels]
    places = []
    for (x, y), label in zip(pixels, labels):
        boxes = [(name, _box(x, y, dx, dy, label)) for name, dx, dy in _PLACES]
        name, box = min(boxes, key=lambda named: _cost(named[1], taken, width))
        taken.append(box)
        places.append(name)
    return places


def _scaled(value: float, shown, length: float) -> float:
    return length * (value - shown[0]) / (shown[1] - shown[0])


def _box(x: float, y: float, dx: float, dy: float, label: str):
    """Left, bottom, right and top of a label beside a marker, in pixels."""
    width, height = 7.2 * len(label) + 6, 16
    left = x + dx * width - width / 2 + (math.copysign(8, dx) if dx else 0)
    bottom = y + dy * height - height / 2
    return left, bottom, left + width, bottom + height


def _cost(box, taken, width: float) -> float:
    """Square pixels of overlap with what stands there already, and a price for reaching over the edge."""
    overlap = sum(_shared(box[0::2], other[0::2]) * _shared(box[1::2], other[1::2]) for other in taken)
    return overlap + 100 * (max(0.0, -box[0]) + max(0.0, box[2] - width))


def _shared(a: tuple[float, float], b: tuple[float, float]) -> float:
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0]))


def label_lines(figure: go.Figure, ends, top: float, height: float, **place) -> None:
    """Write the name of each line beside its last point, moved apart where two would overlap.

    Args:
        figure: its axis grows until the names fit.
        ends: (x, y, name) of each line's last point; x in the units in which the axis is drawn.
        top: the largest y shown, where the axis begins at 0.
        height: of the plotting area in pixels.
        **place: ``xref`` and ``yref`` of the axes.
    """
    previous = math.inf
    for x, y, name in sorted(ends, key=lambda end: -end[1]):
        wanted = height * y / top
        previous = min(wanted, previous - 15)
        figure.add_annotation(
            x=x, y=y, text=name, xanchor="left", xshift=9, yshift=previous - wanted, showarrow=False, **place
        )
