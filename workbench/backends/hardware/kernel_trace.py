"""Which kernels does a call launch? Asked of CUPTI through ``cupti-python``, else of Nsight Compute's ``ncu``.

CUPTI watches this process and costs nothing else. ``ncu`` must start the program itself: it runs a call again in a
process of its own. Both need a GPU.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from ...errors import Refusal, WorkbenchError
from .kernels import Kernel

#: Calls in a process that ncu watches; the first loads kernels, and the last two must be equal.
NCU_CALLS, EQUAL_CALLS = 3, 2
#: Kernels that ncu lists at most, so that a program that goes wrong ends; a ViT-H/14 launches under 1,000 a call.
NCU_KERNELS = 20_000
NCU_TIMEOUT_S = 600
_DURATION = "gpu__time_duration.sum"
#: Seconds in a unit of time; older versions of ncu write the whole word.
_SECONDS = {
    **{"ns": 1e-9, "nsecond": 1e-9, "us": 1e-6, "usecond": 1e-6},
    **{"ms": 1e-3, "msecond": 1e-3, "s": 1.0, "second": 1.0},
}


def tracer_missing() -> Refusal | None:
    """Why the kernels of a call cannot be listed on this machine, or None where a tool for it is installed."""
    if tracer_name():
        return None
    return Refusal(
        "neither cupti-python nor ncu is here, and only they list the kernels of a call",
        "pip install cupti-python on the machine with the GPU, or put ncu of Nsight Compute on its PATH",
    )


def tracer_name() -> str:
    """The tool that lists kernels on this machine: ``cupti-python``, else ``ncu``; empty without one."""
    return "cupti-python" if _has_cupti() else "ncu" if shutil.which("ncu") else ""


def trace(
    call: Callable[[], None], command: Callable[[], Sequence[str]], path: Path | None = None
) -> list[Kernel] | None:
    """The kernels of one call in the order of their launch, by whichever tool is here.

    Args:
        call: makes the call once in this process and waits for its end.
        command: gives a program that makes the call ``NCU_CALLS`` times and launches nothing afterwards; called
            only where ncu is used.
        path: a folder that the program's Python must find modules in.

    Returns:
        None where there is no tool, see ``tracer_missing``.

    Raises:
        WorkbenchError: ncu lists no kernels, because it may not read the counters or because the program failed.
    """
    tool = tracer_name()
    if tool == "cupti-python":
        return trace_by_cupti(call)
    return trace_by_ncu(command(), path) if tool else None


# ---- CUPTI -------------------------------------------------------------------------------------------------------


def _has_cupti() -> bool:
    try:
        return importlib.util.find_spec("cupti") is not None and _cupti() is not None
    except (ImportError, ValueError):
        return False


def _cupti():
    """The module, or None where its library cannot be loaded: that fails in many ways."""
    try:
        from cupti import cupti  # ty: ignore[import-not-found] -- on GPU hosts only
    except Exception:
        return None
    return cupti


def trace_by_cupti(call: Callable[[], None]) -> list[Kernel]:
    """The kernels that one call launches in this process, sorted by the time when they began.

    The interface is that of cupti-python's "Activity API": one callback hands out buffers, another takes their
    records.
    """
    cupti = _cupti()
    kind, found = cupti.ActivityKind.CONCURRENT_KERNEL, []
    call()  # loads kernels, and begins before anything is recorded
    # a record is valid inside the callback only
    cupti.activity_register_callbacks(
        lambda: (8 << 20, 0), lambda records: found.extend(begins_of_records(records))
    )
    cupti.activity_enable(kind)
    try:
        call()
    finally:
        cupti.activity_flush_all(1)
        cupti.activity_disable(kind)
    return [kernel for _, kernel in sorted(found, key=lambda each: each[0])]


def begins_of_records(records: Sequence) -> Iterator[tuple[int, Kernel]]:
    """CUPTI's records of kernels, each with the nanosecond in which it began; other records are left out."""
    for one in records:
        if hasattr(one, "grid_x"):
            grid = (one.grid_x, one.grid_y, one.grid_z)
            yield one.start, Kernel(one.name, 1e-9 * (one.end - one.start), grid)


# ---- Nsight Compute ----------------------------------------------------------------------------------------------


def trace_by_ncu(command: Sequence[str], path: Path | None = None) -> list[Kernel]:
    """The kernels of the last call that a program makes, listed by ncu; seconds are medians over its equal calls.

    Raises:
        WorkbenchError: ncu lists none, or the calls of the program launch different kernels.
    """
    watched = ["ncu", "--csv", "--metrics", _DURATION, "--clock-control", "none", "-c", str(NCU_KERNELS), *command]
    folders = [str(path)] if path else []
    search = os.pathsep.join((*folders, *filter(None, [os.environ.get("PYTHONPATH")])))
    try:
        child = subprocess.run(
            watched,
            stdin=subprocess.DEVNULL,  # a worker's own input belongs to its job
            capture_output=True,
            text=True,
            errors="replace",
            timeout=NCU_TIMEOUT_S,
            env={**os.environ, "PYTHONPATH": search},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _listed_none(str(error)) from error
    found = kernels_of_csv(child.stdout)
    if not found or child.returncode:
        raise _listed_none(_reason(f"{child.stdout}\n{child.stderr}"))
    return last_call(found)


def _listed_none(reason: str) -> WorkbenchError:
    return WorkbenchError(
        "ncu listed no kernels",
        why=reason,
        remedy="where it may not read the GPU's counters (ERR_NVGPUCTRPERM), run as root or set the driver's "
        "option NVreg_RestrictProfilingToAdminUsers=0; or pip install cupti-python",
    )


def _reason(text: str) -> str:
    """ncu's own error in what was printed, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("==ERROR==")]
    return " ".join(errors or lines[-1:])[:400] or "it printed nothing"


def kernels_of_csv(text: str) -> list[Kernel]:
    """The kernels in what ``ncu --csv --metrics gpu__time_duration.sum`` printed, in the order of their launch.

    Lines before the table, such as ``==PROF== Connected to process``, and other metrics are skipped. Without a
    table the list is empty.
    """
    lines = text.splitlines()
    begin = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    table = (line for line in lines[begin:] if line.startswith('"'))
    rows = csv.DictReader(io.StringIO("\n".join(table)))
    return [_kernel(row) for row in rows if row.get("Metric Name") == _DURATION]


def _kernel(row: Mapping[str, str]) -> Kernel:
    number, unit = row["Metric Value"].replace(",", ""), row["Metric Unit"]
    grid = [int(length) for length in re.findall(r"\d+", row.get("Grid Size") or "")]
    return Kernel(
        row["Kernel Name"], float(number) * _SECONDS[unit], (grid[0], grid[1], grid[2]) if len(grid) == 3 else None
    )


def last_call(kernels: Sequence[Kernel], calls: int = EQUAL_CALLS) -> list[Kernel]:
    """One call out of all that a program launched: the longest list that its end repeats ``calls`` times.

    Loading an engine launches kernels too, and a first call may launch more than later ones.

    Returns:
        The kernels of a call with the median of their seconds.

    Raises:
        WorkbenchError: the end repeats nothing.
    """
    names = [kernel.name for kernel in kernels]
    for length in range(len(names) // calls, 0, -1):
        pieces = list(_pieces(names, length, calls))
        if all(piece == pieces[0] for piece in pieces[1:]):
            timed = zip(*_pieces(kernels, length, calls))
            return [same[0]._replace(seconds=median(one.seconds for one in same)) for same in timed]
    raise WorkbenchError(
        "The kernels of one call cannot be told from those of others",
        why=f"{len(names)} kernels were launched, and the last calls have no two equal lists",
        remedy="run it again on a quiet GPU; if it stays so, the engine chooses kernels at run time",
    )


def _pieces(items: Sequence, length: int, calls: int) -> Iterator[Sequence]:
    end = len(items)
    return (items[end - length * (index + 1) : end - length * index] for index in range(calls))
