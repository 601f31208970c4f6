"""The plan of a study: its cells, which of them are skipped and why, and what the ledger holds of each."""

from __future__ import annotations

from dataclasses import dataclass

from ..backends import backend
from ..errors import Cancelled, Refusal, WorkbenchError
from ..progress import Meter, Progress
from ..records import Measurement, Recipe, Variant
from ..remote.host import Host
from ..workspace import Workspace
from .expectation import VARIANT
from .request import Request
from .summaries import MEASUREMENT

#: Kinds of observations in the ledger, beside measurements.
PLAN, REFUSAL = "study", "refusal"
#: The kind under which refusals were stored until November 2026.
OLD_REFUSAL = "obstacle"


@dataclass(frozen=True)
class Cell:
    """One measurement to take: a recipe on a host's backend at a batch size.

    ``key`` finds what the ledger holds of it; ``refusal`` says why it is skipped, where that is known before
    anything is built.
    """

    recipe: Recipe
    backend: str
    batch: int
    host: str
    card: str | None = None
    key: str = ""
    refusal: Refusal | None = None


@dataclass(frozen=True, eq=False)  # found by identity: to compare 100,000 cells takes longer than to read them
class Plan:
    """The cells of one study as they were planned; ``request`` is the digest of what was asked for."""

    name: str
    request: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class EngineCells:
    """The cells of a study that share an engine: one variant on one host."""

    variant: Variant
    host: Host
    cells: tuple[Cell, ...]

    @property
    def label(self) -> str:
        """Recipe, host and card in one line."""
        return " ".join(filter(None, (self.variant.recipe.label, "on", self.host.name, self.host.card)))

    def at(self, batch: int) -> Cell | None:
        """The cell of this batch size, or None."""
        return next((cell for cell in self.cells if cell.batch == batch), None)


def planned(
    request: Request, workspace: Workspace, meter: Meter, on_cluster: bool = False
) -> tuple[list[EngineCells], tuple[Cell, ...]]:
    """Apply every recipe, and find the cells that cannot be measured.

    Args:
        request: what is asked for.
        workspace: where variants are made, or found.
        meter: gets a step for each recipe.
        on_cluster: whether a cluster does the jobs, so that the backends of this machine are not asked.

    Returns:
        The cells to measure, by engine; and all cells, those with a refusal included.
    """
    engines, cells = [], []
    for recipe in request.recipes:
        made = _variant(request, recipe, workspace, meter.step(recipe.label, VARIANT))
        for host in request.hosts:
            here = host.command is None and not on_cluster
            row = [_cell(request, host, recipe, batch, made, here) for batch in request.batches]
            cells += row
            possible = tuple(cell for cell in row if cell.refusal is None)
            if possible and isinstance(made, Variant):
                engines.append(EngineCells(made, host, possible))
    return engines, tuple(cells)


def unplanned(request: Request) -> tuple[Cell, ...]:
    """The cells of a study that never ran."""
    return tuple(
        Cell(recipe, host.backend, batch, host.name, host.card)
        for recipe in request.recipes
        for host in request.hosts
        for batch in request.batches
    )


def _variant(request: Request, recipe: Recipe, workspace: Workspace, progress: Progress) -> Variant | Refusal:
    from ..graphs.quantization.recipe import apply_recipe

    try:
        return apply_recipe(request.graph, recipe, workspace, progress=progress)
    except Cancelled:
        raise
    except WorkbenchError as error:
        return error.refusal


def _cell(request: Request, host: Host, recipe: Recipe, batch: int, made: Variant | Refusal, here: bool) -> Cell:
    refusal = why_skipped(made, host, batch, here)
    key = request.cell_key(made.digest, host, batch, here) if isinstance(made, Variant) and not refusal else ""
    return Cell(recipe, host.backend, batch, host.name, host.card, key, refusal)


# ---- which cells are skipped -------------------------------------------------------------------------------------


def why_skipped(made: Variant | Refusal, host: Host, batch: int, here: bool) -> Refusal | None:
    """Why a cell is skipped before anything is built, or None.

    Args:
        made: the recipe's variant, or why the recipe could not be applied.
        host: where the engine would be built.
        batch: images per call.
        here: whether that is this machine, whose backend can be asked.
    """
    if isinstance(made, Refusal):
        return made
    runtime = backend(host.backend)
    if here and (refusal := runtime.missing() or runtime.refuses(made, host.card)):
        return refusal
    if made.graph.batch not in (None, batch):
        return Refusal(
            f"the graph was exported with a static batch of {made.graph.batch}",
            "export it with batch='dynamic', or at this batch",
        )
    return None


def is_measured(host: Host, execution: str | None) -> bool:
    """Whether a cell is skipped because an earlier run measured it.

    An engine that was built and could not be opened is tried again. A GPU backend of this machine is the exception:
    without a command its jobs run in a process of their own, and each try would build the engine anew.

    Args:
        host: where the cell is measured.
        execution: of its newest measurement, see ``summaries.executions``; None where it has none.
    """
    builds_anew = host.command is None and host.interpreter is not None
    return execution is not None and (execution != "built" or builds_anew)


# ---- what the ledger holds ---------------------------------------------------------------------------------------


def newest_measurement(workspace: Workspace, key: str) -> Measurement | None:
    """The last measurement of a cell, or None."""
    return workspace.newest(MEASUREMENT, Measurement, key)


def newest_refusals(workspace: Workspace) -> dict[str, Refusal]:
    """Key of a cell -> why it could not be measured, the last time that it was tried and could not."""
    old = workspace.newest_by_key(OLD_REFUSAL, Refusal)
    return old | workspace.newest_by_key(REFUSAL, Refusal)
