"""A panel to choose the cells of a study, see which are measured and how long the rest will take, and run them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets
import numpy as np

from ..measuring.subject import model_name
from ..progress import Progress
from ..records import Engine, Measurement, Recipe
from ..remote.host import Host
from ..studies.estimate import estimate
from ..studies.plan import newest_measurement
from ..studies.study import Study
from ..studies.summaries import MEASUREMENT
from . import controls
from .choices import Grid
from .panel import Panel

MEASURED, TO_DO, LEFT_OUT = "measured", "to do", "left out"
_CELL = {
    MEASURED: "background: var(--jp-layout-color3, #ddd); font-weight: 600",
    TO_DO: "border: 1px dashed var(--jp-border-color1, #999)",
    LEFT_OUT: "opacity: 0.45",
}


def study_panel(
    study: Study,
    grid: Grid | None = None,
    *,
    work: Callable[[Grid, Progress], Any] | None = None,
) -> Panel:
    """Choose among a study's recipes and batch sizes; ``panel.result()`` is the study of these, after its run.

    Args:
        study: the study whose recipes and batch sizes can be chosen.
        grid: what the panel starts from; the whole study when left out.
        work: called with the chosen grid instead of running the study.
    """
    seed = grid or Grid(study.recipes, study.batches)
    recipes = {
        recipe: controls.checkbox("study-recipe", recipe.label, recipe in seed.recipes) for recipe in study.recipes
    }
    batches = {n: controls.checkbox("study-batch", f"batch {n}", n in seed.batches) for n in study.batches}
    marks = {(recipe, n): widgets.HTML() for recipe in recipes for n in batches}
    cost = controls.with_class(widgets.HTML(), "estimate")

    def read() -> Grid:
        return Grid(_ticked(recipes, seed.recipes), _ticked(batches, seed.batches))

    def make(chosen: Grid, progress: Progress) -> Study:
        return study.narrowed(chosen.recipes, chosen.batches).run(progress)

    def advise(chosen: Grid) -> list:
        known = measured(study)
        for (recipe, n), mark in marks.items():
            mark.value = _mark(study, recipe, n, chosen, known)
        cells = itertools.product(study.hosts, chosen.recipes, chosen.batches)
        cost.value = controls.muted(_cost(study, [cell for cell in cells if cell not in known]))
        return []

    return Panel(
        "study",
        [_matrix(recipes, batches, marks)],
        read,
        work or make,
        view=(cost,),
        verb="Run the study",
        advise=advise,
    )


def _cost(study: Study, cells: list[tuple[Host, Recipe, int]]) -> str:
    if not cells:
        return "Everything chosen is measured already; a run only reads it."
    count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
    return f"{estimate(study, cells, same_images(study))} for {count}."


Cells = Mapping[tuple[Host, Recipe, int], Measurement]


def measured(study: Study) -> Cells:
    """The cells that a run would read from the ledger, with their newest measurement.

    Variants are read from the engines in the ledger, because a variant without an engine has no measurement.
    """
    engines = study.workspace.observations("engine", Engine)
    ours = [engine.variant for engine in reversed(engines) if engine.variant.graph.digest == study.graph.digest]
    variants = dict.fromkeys((variant.recipe, variant.digest) for variant in ours)
    found = {}
    for (recipe, variant), host, batch in itertools.product(variants, study.hosts, study.batches):
        key = study.request.cell_key(variant, host, batch, here=host.command is None)
        newest = newest_measurement(study.workspace, key)
        if newest and newest.execution != "built":
            found.setdefault((host, recipe, batch), newest)
    return found


def same_images(study: Study) -> list[Measurement]:
    """All measurements of this model on these images, of this study and of others."""
    labels = tuple(np.asarray(study.labels).tolist())
    rows = study.workspace.observations(MEASUREMENT, Measurement)
    return [m for m in rows if m.model == model_name(study.graph) and m.labels == labels and m.execution != "built"]


def _ticked(ticks: dict, given: tuple) -> tuple:
    """The ticked values, in the order of ``given``."""
    order = {value: place for place, value in enumerate(given)}
    return tuple(sorted((v for v, tick in ticks.items() if tick.value), key=lambda v: order.get(v, len(order))))


def _mark(study: Study, recipe: Recipe, batch: int, chosen: Grid, known: Cells) -> str:
    done = [known[cell] for host in study.hosts if (cell := (host, recipe, batch)) in known]
    if len(done) == len(study.hosts):
        state, words = MEASURED, ", ".join(f"{m.p50_ms:,.1f} ms" for m in done)
    else:
        state = TO_DO if recipe in chosen.recipes and batch in chosen.batches else LEFT_OUT
        words = f"{len(done)} of {len(study.hosts)} measured" if done else state
    return f'<div class="wb-cell-{state.replace(" ", "-")}" style="padding: 0 8px; {_CELL[state]}">{words}</div>'


def _matrix(recipes: dict, batches: dict, marks: dict) -> widgets.GridBox:
    """A row for each recipe, a column for each batch size; a checkbox in the margin selects all of it."""
    rows = [widgets.HTML(), *batches.values()]
    for recipe, tick in recipes.items():
        rows += [tick, *(marks[recipe, n] for n in batches)]
    columns = f"minmax(12em, max-content) repeat({len(batches)}, minmax(6em, max-content))"
    grid = widgets.GridBox(rows, layout={"grid_template_columns": columns, "grid_gap": "2px 8px"})
    return controls.with_class(grid, "grid")
