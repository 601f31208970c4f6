"""Choose two measurements and compare them, as a whole and block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import pandas as pd

from ..errors import refuse_unless
from ..progress import Progress
from ..records import Measurement
from ..statistics.compare import compare
from . import controls
from .choices import Pair
from .panel import Panel


def compare_panel(
    measurements: Sequence[Measurement] | Mapping[str, Any],
    pair: Pair | None = None,
    *,
    work: Callable[[Any, Any, Progress], Any] | None = None,
    blocks: Mapping[str, pd.DataFrame] | None = None,
) -> Panel:
    """Choose A and B; ``panel.result()`` is what ``work(a, b, progress)`` returns, by default a ``Comparison``.

    Args:
        measurements: what can be chosen, by name or as a list; of two with one name the later counts.
        pair: the names that the panel starts from; the first two when left out.
        work: done with the two chosen instead of ``statistics.compare.compare``.
        blocks: name -> a frame with ``block`` and numbers, such as ``ms``; their differences are shown by block.
    """
    named = dict(measurements) if isinstance(measurements, Mapping) else {_name(m): m for m in measurements}
    refuse_unless(
        len(named) > 1,
        "There are no two things to compare",
        why=f"{len(named)} different measurements are given",
        remedy="measure a second engine",
    )
    first, second = list(named)[:2]
    seed = pair or Pair(first, second)
    offered = [(name, name) for name in named]
    rows = [
        controls.dropdown("a", "Compare A", offered, seed.a),
        controls.dropdown("b", "with B", offered, seed.b),
    ]

    def read() -> Pair:
        return Pair(rows[0].value, rows[1].value)

    def make(chosen: Pair, progress: Progress):
        a, b = _find(named, chosen.a), _find(named, chosen.b)
        return work(a, b, progress) if work else compare(a, b)

    def show(result) -> widgets.Widget:
        parts = [widgets.HTML(_html(result))]
        if blocks and (chosen := read()).a in blocks and chosen.b in blocks:
            parts.append(widgets.HTML(controls.table(block_deltas(blocks[chosen.a], blocks[chosen.b]))))
        return widgets.VBox(parts)

    return Panel("compare", rows, read, make, verb="Compare", show=show)


def block_deltas(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """A minus B for every number of every block that both have, the largest first.

    Args:
        a: a frame with ``block`` and columns of numbers.
        b: another with the same columns.

    Returns:
        ``block``, and for every shared number its value in A, in B, and the difference.
    """
    sums = [frame.groupby("block", sort=False).sum(numeric_only=True) for frame in (a, b)]
    shared = [name for name in sums[0].columns if name in sums[1].columns]
    first, second = sums[0][shared].align(sums[1][shared], join="inner")
    columns = {}
    for name in shared:
        columns |= {
            f"{name} A": first[name],
            f"{name} B": second[name],
            f"{name} A − B": first[name] - second[name],
        }
    deltas = pd.DataFrame(columns, index=first.index)
    if shared:
        deltas = deltas.sort_values(f"{shared[0]} A − B", key=abs, ascending=False, kind="stable")
    return deltas.rename_axis("block").reset_index()


def _name(measurement: Measurement) -> str:
    where = " ".join(filter(None, (measurement.backend, measurement.card)))
    streams = f", {measurement.streams} streams" if measurement.streams > 1 else ""
    return f"{measurement.recipe.label} on {where}, batch {measurement.batch}{streams}"


def _find(named: Mapping[str, Any], name: str):
    refuse_unless(
        name in named,
        f"There is no {name!r} to compare",
        why=f"known are {', '.join(named)}",
        remedy="choose one of these",
    )
    return named[name]


def _html(result) -> str:
    if isinstance(result, pd.DataFrame):
        return controls.table(result)
    return controls.paragraph(str(result))
