"""The cells of a study, and under which names the ledger keeps what belongs to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..backends.hardware.cpu import environment
from ..errors import Refusal
from ..records import Measurement, Recipe
from ..workspace import Workspace

#: Kinds of observations in the ledger.
PLAN, MEASUREMENT, REFUSAL = "study", "measurement", "refusal"
#: The kind under which refusals were stored until November 2026.
OLD_REFUSAL = "obstacle"
#: What of the environment tells machines apart; the rest (load, time) changes from run to run.
MACHINE = ("cpu", "cores", "isa", "platform", "python", "numpy")


@dataclass(frozen=True)
class Cell:
    """One measurement to take: a recipe on a host's backend at a batch size.

    ``key`` finds what the ledger holds of it; ``refusal`` says why it is skipped, where that is
    known before anything is built.
    """

    recipe: Recipe
    backend: str
    batch: int
    host: str
    card: str | None = None
    key: str = ""
    refusal: Refusal | None = None


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


def newest_refusal(workspace: Workspace, cell: Cell) -> Refusal | None:
    """Why a cell is skipped (its plan says so) or could not be measured (the ledger does); None where it can."""
    if cell.refusal:
        return cell.refusal
    found = [each for kind in (OLD_REFUSAL, REFUSAL) for each in workspace.observations(kind, Refusal, cell.key)]
    return found[-1] if found else None


def newest_measurement(workspace: Workspace, key: str) -> Measurement | None:
    """The last measurement of a cell, or None."""
    found = workspace.observations(MEASUREMENT, Measurement, key)
    return found[-1] if found else None
