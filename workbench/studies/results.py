"""The results of a study, read from the ledger alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from ..errors import WorkbenchError
from ..records import Engine, Measurement
from ..workspace import Workspace
from .choice import Choice, choose, pareto
from .frame import as_frame, cell_row, measured_row
from .plan import PLAN, Cell, Plan, newest_measurement, newest_refusal, saved_plan


@dataclass(frozen=True)
class Results:
    """The cells of a plan and what the workspace's ledger holds of them."""

    workspace: Workspace
    plan: Plan

    @property
    def name(self) -> str:
        """The study's name."""
        return self.plan.name

    def frame(self) -> pd.DataFrame:
        """One row per cell, from its newest measurement, or the reason for none; see ``frame.COLUMNS``."""
        return as_frame(_row(self.workspace, cell) for cell in self.plan.cells)

    def latencies(self) -> pd.DataFrame:
        """One row per timed call: ``label``, ``precision``, ``backend``, ``batch``, ``latency_ms``."""
        parts = [
            pd.DataFrame({"latency_ms": m.latencies_s}).mul(1e3).assign(
                label=m.recipe.label, precision=m.recipe.precision, backend=m.backend, batch=m.batch
            )
            for m in self.measurements()
        ]  # fmt: skip
        columns = ["label", "precision", "backend", "batch", "latency_ms"]
        return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)

    def measurements(self) -> list[Measurement]:
        """The newest measurement of every cell that has one, in the order of the grid."""
        found = (newest_measurement(self.workspace, cell.key) for cell in self.plan.cells if cell.key)
        return [measurement for measurement in found if measurement]

    def environment(self) -> Mapping:
        """Machine and runtime of the newest measurement; empty where there is none."""
        found = self.measurements()
        return max((m.environment for m in found), key=lambda facts: str(facts.get("time")), default={})

    def pareto(self, batch: int | None = None) -> pd.DataFrame:
        """The rows that no other beats in both speed and accuracy; see ``choice.pareto``."""
        return pareto(self.frame(), batch)

    def choose(
        self,
        max_drop: float = 0.5,
        max_latency_ms: float | None = None,
        batch: int | None = None,
        latency: str = "p99_ms",
    ) -> Choice:
        """The fastest row within the limits, with its reason and its engine; see ``choice.choose``."""
        choice = choose(self.frame(), max_drop, max_latency_ms, batch, latency)
        built = self.workspace.observations("engine", Engine, choice.row["variant"])
        return dataclasses.replace(
            choice,
            engine=next((engine for engine in built if engine.run_id == choice.row["run_id"]), None),
            measurement=next((m for m in self.measurements() if _is_of(m, choice.row)), None),
        )


def study_results(workspace, name: str) -> Results:
    """The results of a study that ran in this workspace, found by its name alone.

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
    return Results(workspace, plan)


def _is_of(measurement: Measurement, row: Mapping) -> bool:
    return (measurement.run_id, measurement.batch) == (row["run_id"], row["batch"])


def _row(workspace: Workspace, cell: Cell) -> dict:
    refusal = newest_refusal(workspace, cell)
    measurement = newest_measurement(workspace, cell.key) if cell.key else None
    if measurement:
        row = measured_row(measurement, cell.host)
    else:
        row = cell_row(cell.backend, cell.recipe, cell.batch, cell.card, cell.host)
        row["execution"] = "refused" if refusal else "to do"
    if refusal and row["execution"] in ("refused", "built"):
        row |= {"reason": refusal.reason, "remedy": refusal.remedy}
    return row
