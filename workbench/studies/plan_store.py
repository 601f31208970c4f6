"""Plans in the ledger. A plan of 100,000 cells has few recipes, so each of these is written, and read, once."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from .. import records
from ..errors import Refusal, WorkbenchError
from ..ledger import Ledger, Row, new_run_id
from ..records import Recipe
from ..workspace import Workspace, read_row
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

    Cells that were imported from other machines into the study come after its own. A row that is no plan is set
    aside, see ``Workspace.observations``.
    """
    ledger = Ledger(workspace.path)

    def read(kind: str, row: Row) -> Plan | None:
        return read_row(ledger, kind, row, decoded_plan)

    imported = tuple(row[1] for row in ledger.rows(IMPORTED, name) if read(IMPORTED, row))
    for row in reversed(ledger.rows(PLAN, name)):
        if (plan := read(PLAN, row)) and request in (None, plan.request):
            return _with_imported(row[1], imported)
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
    """The plan that ``encoded_plan`` wrote, or an earlier version, which wrote every cell in full.

    Raises:
        WorkbenchError: it is no plan.
        ValueError: it is no JSON.
    """
    data = json.loads(body)
    try:
        if "recipes" not in data:
            cells = tuple(map(_cell_in_full(), data["cells"]))
        else:
            recipes = [records.decode(Recipe, one) for one in data["recipes"]]
            refusals = [None if one is None else records.decode(Refusal, one) for one in data["refusals"]]
            cells = tuple(_cell(recipes, refusals, row) for row in data["cells"])
        plan = Plan(data["name"], data["request"], cells)
        if not isinstance(plan.name, str) or not isinstance(plan.request, str):
            raise TypeError("its name and request must be text")
    except (TypeError, KeyError, IndexError, ValueError, AttributeError) as error:
        raise WorkbenchError(
            "A stored Plan cannot be read",
            why=f"{type(error).__name__}: {error}"[:300],
            remedy="run the study again, which writes a new plan",
        ) from error
    return plan


#: The types of the values between recipe and refusal in the row of a cell, see ``FIELDS``.
TYPES = ((str,), (int,), (str,), (str, type(None)), (str,))


def _cell(recipes: Sequence[Recipe], refusals: Sequence[Refusal | None], row: Sequence) -> Cell:
    """The cell in a row of ``FIELDS``."""
    recipe, *values, refusal = row
    if len(values) != len(TYPES) or not all(type(value) in types for value, types in zip(values, TYPES)):
        raise TypeError(f"{row!r} is no cell")
    if not (0 <= recipe < len(recipes) and 0 <= refusal < len(refusals)):
        raise IndexError(f"{row!r} names a recipe or refusal that is not there")
    return Cell(recipes[recipe], *values, refusals[refusal])


def _cell_in_full() -> Callable[[Mapping[str, Any]], Cell]:
    """Reads cells with all their fields; equal recipes are read once."""
    recipes: dict[str, Recipe] = {}

    def cell(data: Mapping[str, Any]) -> Cell:
        known = recipes.get(repr(data["recipe"]))
        if known is None or set(data) - set(FIELDS) or data.get("refusal"):
            read = records.decode(Cell, data)
            recipes[repr(data["recipe"])] = read.recipe
            return read
        values = data["backend"], data["batch"], data["host"], data.get("card"), data.get("key", "")
        return _cell([known], [None], (0, *values, 0))

    return cell
