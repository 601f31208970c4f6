"""Plans in the ledger. A plan of 100,000 cells has few recipes, so each of these is written, and read, once."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

from .. import records
from ..errors import Refusal
from ..ledger import Ledger, new_run_id
from ..records import Recipe
from ..workspace import Workspace
from .plan import PLAN, Cell, Plan

T = TypeVar("T", bound=Hashable)

#: The fields of a cell in the order in which a stored plan lists them; recipe and refusal are places in its lists.
FIELDS = ("recipe", "backend", "batch", "host", "card", "key", "refusal")


def keep_plan(workspace: Workspace, plan: Plan) -> None:
    """Write a plan down."""
    Ledger(workspace.path).append(new_run_id(), PLAN, plan.name, encoded_plan(plan))


def saved_plan(workspace: Workspace, name: str, request: str | None = None) -> Plan | None:
    """The newest plan of a study in the workspace, or None; with ``request`` only a plan for the same request."""
    bodies = Ledger(workspace.path).bodies(PLAN, name)
    return next(
        (plan for body in reversed(bodies) if request in (None, (plan := decoded_plan(body)).request)), None
    )


def encoded_plan(plan: Plan) -> str:
    """A plan as JSON: its recipes and refusals once each, and a row of ``FIELDS`` for every cell."""
    recipes, refusals = _places(cell.recipe for cell in plan.cells), _places(cell.refusal for cell in plan.cells)
    cells = [
        (recipes[c.recipe], c.backend, c.batch, c.host, c.card, c.key, refusals[c.refusal]) for c in plan.cells
    ]
    known = {"recipes": [records.encode(one) for one in recipes], "refusals": [records.encode(r) for r in refusals]}
    return json.dumps({"name": plan.name, "request": plan.request, **known, "cells": cells})


def _places(values: Iterable[T]) -> dict[T, int]:
    return {value: place for place, value in enumerate(dict.fromkeys(values))}


@functools.lru_cache(maxsize=4)
def decoded_plan(body: str) -> Plan:
    """The plan that ``encoded_plan`` wrote, or an earlier version, which wrote every cell in full."""
    data = json.loads(body)
    if "recipes" not in data:
        return Plan(data["name"], data["request"], tuple(map(_cell_in_full(), data["cells"])))
    recipes = [records.decode(Recipe, one) for one in data["recipes"]]
    refusals = [one and records.decode(Refusal, one) for one in data["refusals"]]
    cells = (Cell(recipes[recipe], *fields, refusals[refusal]) for recipe, *fields, refusal in data["cells"])
    return Plan(data["name"], data["request"], tuple(cells))


def _cell_in_full() -> Callable[[Mapping[str, Any]], Cell]:
    """Reads cells with all their fields; equal recipes are read once."""
    recipes: dict[str, Recipe] = {}

    def cell(data: Mapping[str, Any]) -> Cell:
        known = recipes.get(repr(data["recipe"]))
        if known is None or set(data) - set(FIELDS) or data.get("refusal"):
            read = records.decode(Cell, data)
            recipes[repr(data["recipe"])] = read.recipe
            return read
        return Cell(known, data["backend"], data["batch"], data["host"], data.get("card"), data.get("key", ""))

    return cell
