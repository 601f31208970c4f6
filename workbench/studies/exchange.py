"""Measurements between machines: a study as JSON Lines, so that a T4, an Orin and a laptop appear in one chart.

The first line says what the file is, whose study it holds and how many lines follow. Each line after it is one
measurement with its place in the grid and a SHA-256 of both.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

from .. import records
from ..digests import digest
from ..errors import WorkbenchError, path_of, refuse_unless
from ..ledger import Ledger, Observation, new_run_id
from ..records import Measurement, Recipe
from ..workspace import Workspace
from .plan import Cell, Plan, newest_measurement
from .plan_store import IMPORTED, encoded_plan
from .results import study_results
from .signed_lines import checked, read_lines, write_lines
from .summaries import MEASUREMENT, summary_of

FORMAT, VERSION = "workbench records", 1


def export_records(workspace, study: str, path, machine: str | None = None) -> int:
    """Write the newest measurement of every cell of a study to a file.

    Args:
        workspace: where the study ran.
        study: its name.
        path: the file, usually ``.jsonl``; it is written whole or not at all.
        machine: the name under which the rows appear elsewhere; None is this machine's own.

    Returns:
        How many measurements were written.

    Raises:
        WorkbenchError: there is no such study, it has no measurement, or the file cannot be written.
    """
    workspace, path, machine = (
        Workspace.of(workspace),
        path_of("A file of records", path),
        machine or platform.node(),
    )
    found = [
        (cell, measurement)
        for cell in study_results(workspace, study).plan.cells
        if cell.key and (measurement := newest_measurement(workspace, cell.key))
    ]
    refuse_unless(
        bool(found),
        f"The study {study!r} has nothing to export",
        why="none of its cells was measured",
        remedy="run it first",
    )
    header = {"format": FORMAT, "version": VERSION, "study": study, "machine": machine}
    lines = [{"cell": _place(cell), "measurement": records.encode(measurement)} for cell, measurement in found]
    write_lines(path, header, lines)
    return len(found)


def _place(cell: Cell) -> dict[str, Any]:
    place = {"backend": cell.backend, "batch": cell.batch, "host": cell.host, "card": cell.card, "key": cell.key}
    return {"recipe": records.encode(cell.recipe)} | place


def import_records(workspace, path) -> str:
    """Take the measurements of another machine into a workspace, beside those of its own study of the same name.

    All lines are checked before any is taken. A file that was imported before changes nothing.

    Args:
        workspace: where they go.
        path: what ``export_records`` wrote.

    Returns:
        The name of the study.

    Raises:
        WorkbenchError: it is no such file, or a line is missing, damaged or no measurement; nothing is imported.
    """
    workspace, path = Workspace.of(workspace), path_of("A file of records", path)
    remedy = "name a file that `workbench export-records` wrote"
    header, lines = read_lines(path, FORMAT, VERSION, texts=("study", "machine"), remedy=remedy)
    machine, cells, new, ledger = header["machine"], [], [], Ledger(workspace.path)
    for number, line in enumerate(lines, start=2):
        cell, measurement = _checked(path, number, line, machine)
        cells.append(cell)
        body = json.dumps(records.encode(measurement))
        if body not in (known for _, known in ledger.rows(MEASUREMENT, cell.key)):
            new.append(Observation(new_run_id(), MEASUREMENT, cell.key, body, summary_of(measurement)))
    plan = encoded_plan(Plan(header["study"], f"imported from {machine}", tuple(cells)))
    if ledger.newest(IMPORTED, header["study"]).get(header["study"], ("", ""))[1] != plan:
        new.append(Observation(new_run_id(), IMPORTED, header["study"], plan))
    ledger.append_all(new)
    return header["study"]


def _checked(path: Path, number: int, line: str, machine: str) -> tuple[Cell, Measurement]:
    """A line's cell, now a cell of that machine, and its measurement."""
    try:
        data = checked(line)
        place = data["cell"]
        recipe, host = records.decode(Recipe, place["recipe"]), place["host"]
        host = machine if host == place["backend"] else f"{machine}/{host}"
        key = digest("imported", machine, place["key"])
        cell = Cell(recipe, place["backend"], place["batch"], host, place["card"], key)
        return cell, records.decode(Measurement, data["measurement"])
    except WorkbenchError as error:
        why = f"{error.what}: {error.why}"
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
    remedy = "copy or export the file again; nothing was imported"
    raise WorkbenchError(f"Line {number} of {path} is no measurement", why=why[:300], remedy=remedy)
