"""Choose the cells of a study, see what is measured already and what the rest will cost, and run it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import ipywidgets as widgets
import numpy as np

from ..backends.base import Progress
from ..records import Measurement, Recipe
from ..studies.cells import MEASUREMENT
from ..studies.hosts import Host
from ..studies.study import Study
from . import controls
from .choices import Grid
from .estimate import estimate
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
    """Choose recipes and batch sizes out of a study's; ``panel.result()`` is the study of those, run.

    Args:
        study: gives the recipes and batch sizes to choose from, and everything else.
        grid: what the panel starts from; the whole study when left out.
        work: done with the chosen grid instead of running the study.
    """
    seed = grid or Grid(study.recipes, study.batches)
    recipes = {
        recipe: controls.tick("study-recipe", recipe.label, recipe in seed.recipes) for recipe in study.recipes
    }
    batches = {n: controls.tick("study-batch", f"batch {n}", n in seed.batches) for n in study.batches}
    marks = {(recipe, n): widgets.HTML() for recipe in recipes for n in batches}
    cost = controls.hooked(widgets.HTML(), "estimate")

    def read() -> Grid:
        return Grid(_ticked(recipes, seed.recipes), _ticked(batches, seed.batches))

    def make(chosen: Grid, progress: Progress) -> Study:
        return narrowed(study, chosen).run(progress)

    def advise(chosen: Grid) -> list:
        known = measured(study)
        for (recipe, n), mark in marks.items():
            mark.value = _mark(study, recipe, n, chosen, known)
        cells = itertools.product(study.hosts, chosen.recipes, chosen.batches)
        open_cells = [cell for cell in cells if found(known, *cell) is None]
        cost.value = controls.muted(
            f"{estimate(study, open_cells, known)} for {len(open_cells)} cells."
            if open_cells
            else "Everything chosen is measured already; a run only reads it."
        )
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


def narrowed(study: Study, grid: Grid) -> Study:
    """The same study of fewer recipes and batch sizes."""
    return Study(
        study.graph,
        study.workspace,
        recipes=grid.recipes,
        images=study.images,
        labels=study.labels,
        backends=study.backends,
        batches=grid.batches,
        calibration=study.calibration,
        cards=study.cards,
        options=study.options,
        name=study.name,
        dataset=study.dataset,
        seconds=study.seconds,
    )


def measured(study: Study) -> list[Measurement]:
    """What the workspace's ledger holds of this model on these images, the newest first."""
    labels = tuple(np.asarray(study.labels).tolist())
    model = study.graph.spec.name if study.graph.spec else study.graph.path.stem
    rows = study.workspace.observations(MEASUREMENT, Measurement)
    return [m for m in reversed(rows) if m.model == model and m.labels == labels and m.execution != "built"]


def found(known: Iterable[Measurement], host: Host, recipe: Recipe, batch: int) -> Measurement | None:
    """The first measurement of a cell; a host without a card of its own takes any."""
    place = host.backend, recipe, batch
    same = (m for m in known if (m.backend, m.recipe, m.batch) == place and host.card in (None, m.card))
    return next(same, None)


def _ticked(ticks: dict, given: tuple) -> tuple:
    """What is ticked, in the order in which it was given first."""
    order = {value: place for place, value in enumerate(given)}
    return tuple(sorted((v for v, tick in ticks.items() if tick.value), key=lambda v: order.get(v, len(order))))


def _mark(study: Study, recipe: Recipe, batch: int, chosen: Grid, known: list[Measurement]) -> str:
    done = [m for host in study.hosts if (m := found(known, host, recipe, batch))]
    if len(done) == len(study.hosts):
        state, words = MEASURED, ", ".join(f"{m.p50_ms:,.1f} ms" for m in done)
    else:
        state = TO_DO if recipe in chosen.recipes and batch in chosen.batches else LEFT_OUT
        words = f"{len(done)} of {len(study.hosts)} measured" if done else state
    return f'<div class="wb-cell-{state.replace(" ", "-")}" style="padding: 0 8px; {_CELL[state]}">{words}</div>'


def _matrix(recipes: dict, batches: dict, marks: dict) -> widgets.GridBox:
    """Recipes down, batch sizes across; a tick in the margin takes a whole row or column in or out."""
    rows = [widgets.HTML(), *batches.values()]
    for recipe, tick in recipes.items():
        rows += [tick, *(marks[recipe, n] for n in batches)]
    columns = f"minmax(12em, max-content) repeat({len(batches)}, minmax(6em, max-content))"
    grid = widgets.GridBox(rows, layout={"grid_template_columns": columns, "grid_gap": "2px 8px"})
    return controls.hooked(grid, "grid")
