"""Start a sensitivity run, and see the map of blocks and roles fill."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable

import ipywidgets as widgets
import pandas as pd

from ..graphs.analysis.sensitivity import PlaceLoss, Sensitivity, sensitivity
from ..places import block_name
from ..progress import Progress
from ..records import DYNAMIC, METHODS, ROLES, SCOPES, Graph, Recipe
from ..reporting import figures
from . import controls
from .panel import Panel
from .recipe import METHOD_WORDS, SCOPE_WORDS, worded

#: How many of the most sensitive places are named under the map.
NAMED = 5
#: A browser needs some time for each map; places that were tried before come faster than it can draw.
DRAW_EVERY_S = 1.0


def sensitivity_panel(graph: Graph, recipe: Recipe, workspace, *, images, labels=None, calibration=None) -> Panel:
    """Quantize one place at a time; ``panel.result()`` is what ``sensitivity`` returns.

    Args:
        graph: a float32 graph.
        recipe: int8, fp8, mxfp8, nvfp4, w8, w4 or wfp4; the panel starts from it.
        workspace: a ``Workspace`` or a folder's path.
        images: (N, H, W, 3) float32, normalised: the evaluation set.
        labels: N whole numbers; without them only the logits are compared.
        calibration: images that replace the recipe's own calibration set.
    """
    methods = (*METHODS, DYNAMIC) if recipe.calibration.method == DYNAMIC else METHODS
    chart = controls.with_class(controls.Chart(), "map")
    rows = {
        "scope": controls.dropdown("scope", "Try", worded(SCOPES, SCOPE_WORDS), recipe.scope),
        "method": controls.dropdown(
            "method", "Set each range by", worded(methods, METHOD_WORDS), recipe.calibration.method
        ),
        "samples": controls.integer("samples", "Calibration images", recipe.calibration.samples, 1, 100_000),
    }

    def read() -> Recipe:
        found = {name: row.value for name, row in rows.items()}
        ranges = dataclasses.replace(recipe.calibration, method=found["method"], samples=found["samples"])
        return dataclasses.replace(recipe, scope=found["scope"], calibration=ranges)

    def work(chosen: Recipe, progress: Progress) -> Sensitivity:
        map_ = _Map(chart, graph, chosen)
        given = {"images": images, "labels": labels, "calibration": calibration}
        found = sensitivity(graph, chosen, workspace, **given, progress=_counting_places(progress), each=map_.add)
        map_.draw()
        return found

    return Panel("sensitivity", list(rows.values()), read, work, view=(chart,), verb="Try every place", show=_show)


class _Map:
    """Draws places as they come, as fast as a browser can follow."""

    def __init__(self, chart: controls.Chart, graph: Graph, recipe: Recipe):
        self._chart, self._graph, self._recipe = chart, graph, recipe
        self._rows: list[PlaceLoss] = []
        self._next = 0.0

    def add(self, row: PlaceLoss) -> None:
        self._rows.append(row)
        if time.monotonic() >= self._next:
            self.draw()

    def draw(self) -> None:
        self._chart.draw(sensitivity_map(self._graph, self._recipe, self._rows))
        self._next = time.monotonic() + DRAW_EVERY_S


def _counting_places(progress: Progress) -> Progress:
    """A ``Progress`` that reports how many places are tried, not how many images each of them has classified."""
    count: list[tuple[int, int]] = []

    def report(stage: str, done: int, total: int) -> None:
        if stage == "sensitivity":
            count[:] = [(done, total)]
        if count:
            progress("places", *count[0])
        else:
            progress(stage, done, total)

    return report


def sensitivity_map(graph: Graph, recipe: Recipe, rows: Iterable[PlaceLoss]):
    """The heat map of what was tried so far; places still to come are empty.

    Returns:
        A Plotly figure.
    """
    found = {(row.block, row.role): row for row in rows if row.block}
    places = dict.fromkeys([*_expected(graph, recipe), *found])
    frame = pd.DataFrame(
        {
            "block": block,
            "role": role,
            "logit_error": found[block, role].logit_error if (block, role) in found else math.nan,
        }
        for block, role in places
    )
    images = max((row.images for row in found.values()), default=0)
    return figures.heat_map(
        frame, "logit_error", f"Logit error with one place in {recipe.precision}, {images:,} images", "", "lower"
    )


def _expected(graph: Graph, recipe: Recipe) -> list[tuple[str, str]]:
    depth = graph.spec.depth if graph.spec else 0
    roles = [role for role in ROLES if role != "scores" or recipe.scope != "linear"]
    return [(block_name(index), role) for index in range(depth) for role in roles]


def _show(result: Sensitivity) -> widgets.Widget:
    worst = ", ".join(result.order[:NAMED])
    return widgets.HTML(controls.paragraph(f"The most sensitive first: {worst} ({result.images:,} images)."))
