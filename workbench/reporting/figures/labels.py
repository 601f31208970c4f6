"""Ranges and ticks of axes, and labels beside points and lines that do not cover each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

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
    """Where to put each label so that it covers no other label or point, as far as there is room.

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
    """Square pixels of overlap with other labels and points, and a penalty for crossing the edge."""
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
