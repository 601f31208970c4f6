"""The cells of a study, and under which names the ledger keeps what belongs to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..backends.hardware.cpu import environment
from ..records import Measurement, Recipe
from ..workspace import Workspace

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
    """One measurement to take: a recipe on a host's backend at a batch size.

    ``key`` finds what the ledger holds of it; ``obstacle`` says what stood in its way before anything was built.
    """

    recipe: Recipe
    backend: str
    batch: int
    host: str
    card: str | None = None
    key: str = ""
    obstacle: Obstacle | None = None


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


def newest_measurement(workspace: Workspace, key: str) -> Measurement | None:
    """The last measurement of a cell, or None."""
    found = workspace.observations(MEASUREMENT, Measurement, key)
    return found[-1] if found else None
