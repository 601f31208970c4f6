"""The results of a study, read from the ledger alone."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import Refusal, WorkbenchError
from ..ledger import Ledger
from ..records import Engine, Measurement
from ..statistics.compare import compare
from ..workspace import Workspace
from .choice import Choice, choose, pareto
from .frame import COLUMNS, NUMBERS, WORDS, place_of, with_speedups
from .plan import PLAN, Cell, Plan, newest_measurement, newest_refusals
from .plan_store import IMPORTED, saved_plan
from .summaries import newest_of

TO_DO = "to do"
#: More rows than these are not compared call by call.
MOST_COMPARED = 200
#: The words, and the card, of a cell that has no measurement.
UNMEASURED = [TO_DO, *[""] * len(WORDS)]


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
        return self._frame().copy()

    def _frame(self) -> pd.DataFrame:
        """The frame that was made of the ledger as it is now, if one was; it must not be changed."""
        return _frame_of(self.workspace.path, Ledger(self.workspace.path).last(), self.plan)

    def with_intervals(self, most: int = MOST_COMPARED) -> pd.DataFrame:
        """The frame with the 95 % interval of each speed-up: ``speedup_low`` and ``speedup_high``.

        Calls are compared with those of FP32 on ONNX Runtime at the same batch, round by round where both took
        turns; see ``statistics.compare``. That needs the raw calls, so that it is not done for large studies.

        Args:
            most: where more rows than these were timed, the columns stay NaN.
        """
        frame = self.frame()
        plain = frame[(frame.speedup == 1) & (frame.precision == "fp32")].groupby("batch").head(1)
        timed = frame[frame.speedup.notna()]
        if len(timed) > most:
            return frame
        bases = {frame.batch[place]: self.measurements_at([place])[0] for place in plain.index}
        for place in timed.index:
            found = compare(self.measurements_at([place])[0], bases[frame.batch[place]])
            ends = [frame.speedup[place] * end / found.speedup for end in found.speedup_interval]
            frame.loc[place, ["speedup_low", "speedup_high"]] = [1.0, 1.0] if place in plain.index else ends
        return frame

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
        return self.measurements_at(range(len(self.plan.cells)))

    def measurements_at(self, places: Iterable[int]) -> list[Measurement]:
        """The newest measurements of those of some rows of the frame, by their index, that have one."""
        found = (newest_measurement(self.workspace, key) for place in places if (key := self.plan.cells[place].key))
        return [measurement for measurement in found if measurement]

    def environment(self) -> Mapping:
        """Machine and runtime of the newest measurement; empty where there is none."""
        newest = newest_of(self.workspace, [cell.key for cell in self.plan.cells if cell.key])
        found = newest_measurement(self.workspace, newest.last_key) if newest.last_key else None
        return found.environment if found else {}

    def pareto(self, batch: int | None = None, against: str = "images_per_second") -> pd.DataFrame:
        """The rows that no other beats in both accuracy and speed, or energy; see ``choice.pareto``."""
        return pareto(self._frame(), batch, against)

    def choose(
        self,
        max_drop: float | None = 0.5,
        max_latency_ms: float | None = None,
        batch: int | None = None,
        latency: str = "p99_ms",
        **limits: float | None,
    ) -> Choice:
        """The fastest row within the limits, with its reason and its engine; all limits are ``choice.choose``'s."""
        choice = choose(self._frame(), max_drop, max_latency_ms, batch, latency, **limits)
        built = self.workspace.observations("engine", Engine, choice.row["variant"])
        return dataclasses.replace(
            choice,
            engine=next((engine for engine in built if engine.run_id == choice.row["run_id"]), None),
            measurement=self.measurements_at([choice.place])[0],
        )


def study_results(workspace, name: str) -> Results:
    """The results of a study that ran in this workspace, found by its name alone.

    Raises:
        WorkbenchError: no study of this name ran here.
    """
    workspace = Workspace.of(workspace)
    plan = saved_plan(workspace, name)
    if plan is None:
        known = sorted({name for kind in (PLAN, IMPORTED) for name in Ledger(workspace.path).keys(kind)})
        raise WorkbenchError(
            f"There is no study {name!r} in {workspace.path}",
            why=f"the studies there are {', '.join(known)}" if known else "no study ran there yet",
            remedy="name one of these, or run the study first",
        )
    return Results(workspace, plan)


@functools.lru_cache(maxsize=4)
def _frame_of(path: Path, last: int, plan: Plan) -> pd.DataFrame:
    """The frame of a plan, when the newest observation in the ledger is the one with the number ``last``."""
    workspace, cells = Workspace(path), plan.cells
    newest = newest_of(workspace, [cell.key for cell in cells if cell.key])
    places = np.array([newest.place.get(cell.key, -1) for cell in cells], dtype=int)
    numbers = np.vstack([newest.numbers, np.full(len(NUMBERS), math.nan)])[places]
    words = np.array([*newest.words, UNMEASURED], dtype=object)[places].T
    columns = _columns(cells, dict(zip((*WORDS, "card"), words)), newest_refusals(workspace))
    return with_speedups(pd.DataFrame({**dict(zip(NUMBERS, numbers.T)), **columns})[list(COLUMNS)])


def _columns(cells: Sequence[Cell], words: dict[str, np.ndarray], refusals: Mapping[str, Refusal]) -> dict:
    """The columns of a frame that are no numbers, from the cells and the words of their newest measurements."""
    recipes = {id(cell.recipe): cell.recipe for cell in cells}  # by identity, because to compare them takes long
    labels = {number: recipe.label for number, recipe in recipes.items()}
    reasons, remedies = ([""] * len(cells) for _ in range(2))
    for place, cell in enumerate(cells):
        refusal = cell.refusal or refusals.get(cell.key)
        if refusal is None:
            continue
        if words["execution"][place] == TO_DO:
            words["execution"][place] = "refused"
        if words["execution"][place] in ("refused", "built"):
            reasons[place], remedies[place] = refusal.reason, refusal.remedy
    cards = [card or cell.card or "" for cell, card in zip(cells, words["card"])]
    where = functools.cache(place_of)
    return words | {
        "card": cards,
        "label": [labels[id(cell.recipe)] for cell in cells],
        "precision": [cell.recipe.precision for cell in cells],
        "backend": [cell.backend for cell in cells],
        "where": [where(cell.backend, cell.host, card) for cell, card in zip(cells, cards)],
        "batch": [cell.batch for cell in cells],
        "recipe": [cell.recipe for cell in cells],
        "reason": reasons,
        "remedy": remedies,
    }
