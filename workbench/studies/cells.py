"""The cells of a study and what the ledger knows of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from ..backends.machine import environment
from ..errors import WorkbenchError
from ..records import Measurement, Recipe
from ..workspace import Workspace
from .table import as_frame, cell_row, measured_row, refused_row

PLAN, MEASUREMENT, OBSTACLE = "study", "measurement", "obstacle"
#: What of the environment tells machines apart; the rest (load, time) changes from run to run.
MACHINE = ("cpu", "cores", "isa", "platform", "python", "numpy")


@dataclass(frozen=True)
class Obstacle:
    """Why a cell could not be measured, and what would make it possible."""

    reason: str
    remedy: str


@dataclass(frozen=True)
class Cell:
    """One measurement to take: a recipe on a backend at a batch size.

    ``key`` finds what the ledger holds of it; ``obstacle`` says what stood in its way before anything was built.
    """

    recipe: Recipe
    backend: str
    batch: int
    card: str | None = None
    key: str = ""
    obstacle: Obstacle | None = None

    @property
    def engine_label(self) -> str:
        """Recipe, backend and card in one line."""
        return " ".join(filter(None, (self.recipe.label, "on", self.backend, self.card)))


@dataclass(frozen=True)
class Plan:
    """The cells of one study as they were planned; ``request`` is a digest of everything that was asked."""

    name: str
    request: str
    cells: tuple[Cell, ...]


def machine_facts() -> Mapping:
    """What makes a timing comparable with another: the processor and the interpreter, not the load of the hour."""
    facts = environment()
    return {name: facts[name] for name in MACHINE}


def saved_plan(workspace: Workspace, name: str, request: str | None = None) -> Plan | None:
    """The newest plan of a study in the workspace, or None; with ``request`` only a plan for the same request."""
    plans = workspace.observations(PLAN, Plan, name)
    return next((p for p in reversed(plans) if request in (None, p.request)), None)


def study_frame(workspace, name: str) -> pd.DataFrame:
    """The frame of a study that ran in this workspace, by its name alone.

    Raises:
        WorkbenchError: no study of this name ran here.
    """
    workspace = Workspace.of(workspace)
    plan = saved_plan(workspace, name)
    if plan is None:
        known = sorted({p.name for p in workspace.observations(PLAN, Plan)})
        raise WorkbenchError(
            f"There is no study {name!r} in {workspace.path}",
            why=f"the studies there are {', '.join(known)}" if known else "no study ran there yet",
            remedy="name one of these, or run the study first",
        )
    return plan_frame(workspace, plan)


def plan_frame(workspace: Workspace, plan: Plan) -> pd.DataFrame:
    """One row per cell, from the newest measurement or else the newest obstacle of each."""
    return as_frame(_row(workspace, cell) for cell in plan.cells)


def newest_measurement(workspace: Workspace, key: str) -> Measurement | None:
    """The last measurement of a cell, or None."""
    found = workspace.observations(MEASUREMENT, Measurement, key)
    return found[-1] if found else None


def _row(workspace: Workspace, cell: Cell) -> dict:
    axes = (cell.backend, cell.recipe, cell.batch, cell.card)
    obstacles = [cell.obstacle] if cell.obstacle else workspace.observations(OBSTACLE, Obstacle, cell.key)
    told = (obstacles[-1].reason, obstacles[-1].remedy) if obstacles else ("", "")
    if cell.key and (measurement := newest_measurement(workspace, cell.key)):
        return measured_row(measurement, *(told if measurement.execution == "built" else ()))
    return refused_row(*axes, *told) if obstacles else cell_row(*axes)
