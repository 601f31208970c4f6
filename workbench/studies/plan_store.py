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

#: The kind of plans that came with imported measurements.
IMPORTED = "imported study"
#: The fields of a cell in the order in which a stored plan lists them; recipe and refusal are places in its lists.
FIELDS = ("recipe", "backend", "batch", "host", "card", "key", "refusal")


def keep_plan(workspace: Workspace, plan: Plan) -> None:
    """Write a plan down."""
    Ledger(workspace.path).append(new_run_id(), PLAN, plan.name, encoded_plan(plan))


def saved_plan(workspace: Workspace, name: str, request: str | None = None) -> Plan | None:
    """The newest plan of a study in the workspace, or None; with ``request`` only a plan for the same request.

    Cells that were imported from other machines into the study come after its own.
    """
    ledger = Ledger(workspace.path)
    imported = tuple(ledger.bodies(IMPORTED, name))
    for body in reversed(ledger.bodies(PLAN, name)):
        if request in (None, decoded_plan(body).request):
            return _with_imported(body, imported)
    return _with_imported(None, imported) if imported and request is None else None


@functools.lru_cache(maxsize=4)
def _with_imported(body: str | None, imported: tuple[str, ...]) -> Plan:
    """A plan, or that of a study which never ran here, with the cells of imports; of equal ones the newest."""
    plans = [decoded_plan(each) for each in (*([] if body is None else [body]), *imported)]
    if len(plans) == 1:
        return plans[0]
    cells = {cell.key or number: cell for number, cell in enumerate(cell for plan in plans for cell in plan.cells)}
    return Plan(plans[0].name, plans[0].request, tuple(cells.values()))


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


@functools.lru_cache(maxsize=8)
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
