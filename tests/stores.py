"""Small artefacts, and programs that fill a workspace in light processes of their own."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from workbench import digests, files, ledger, workspace
from workbench.errors import WorkbenchError
from workbench.records import Batches
from workbench.workspace import Workspace


@dataclass(frozen=True)
class Note:
    """A record with a file."""

    path: Path
    words: str = ""


def noted(text: str, calls: list | None = None):
    """A maker of a Note with this text; it appends its key to ``calls``."""

    def make(folder, key):
        if calls is not None:
            calls.append(key)
        (folder / "note.txt").write_text(text)
        return Note(folder / "note.txt", text)

    return make


def never(folder, key):
    """The maker of an artefact that must be there already."""
    raise AssertionError(f"the artefact {key} was lost")


def work(path, numbers: Iterable[int], finished: Callable[[str], None]) -> None:
    """Append an observation and make an artefact for every number; report what is finished."""
    workspace = Workspace(path)
    for number in numbers:
        workspace.append("batches", "key", Batches(1, 1, number))
        finished(f"append {number}")
        workspace.artefact("note", Note, number, noted("x" * 10_000))
        finished(f"artefact {number}")


def report(line: str) -> None:
    print(line, flush=True)


def work_for_ever(path) -> None:
    report("ready")
    work(path, range(1, 10**6), report)


def die_at_every_line(runs, step) -> None:
    """Children of this process die by SIGKILL at the first line that they execute in the workspace, at the
    ``step``-th after it, and so on, until one survives; what each had finished is in ``<line>.log``."""
    for line in range(1, 100_000, int(step)):
        child = os.fork()
        if not child:
            with open(Path(runs) / f"{line}.log", "w") as log:
                sys.settrace(_killer(line))
                work(Path(runs) / str(line), [1], lambda done: print(done, file=log, flush=True))
                sys.settrace(None)
                os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            return


def _killer(line: int):
    seen, traced = 0, {module.__file__ for module in (workspace, ledger, files, digests)}

    def trace(frame, event, argument):
        nonlocal seen
        if frame.f_code.co_filename not in traced:
            return None
        seen += event == "line"
        if seen == line:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def append_many(path, start, count) -> None:
    """Wait for a time, then append as many observations as fast as possible."""
    _wait_until(float(start))
    for number in range(int(count)):
        Workspace(path).append("batches", str(os.getpid()), Batches(1, 1, number + 1))


def make_slowly(path, start) -> None:
    """Wait for a time, then make an artefact that other processes make as well, each in its own words."""
    _wait_until(float(start))

    def make(folder, key):
        (folder / "note.txt").write_text(str(os.getpid()))
        time.sleep(0.1)
        return Note(folder / "note.txt", str(os.getpid()))

    note = Workspace(path).artefact("note", Note, 1, make)
    report(f"{note.words} {note.path.read_text()}")


def _wait_until(start: float) -> None:
    while time.time() < start:
        time.sleep(0.001)


def write_too_much(path) -> None:
    """Make an artefact and an observation of 200 kB where files end at 100, and report how each is refused."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write fails with an error instead of a signal
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    workspace, long = Workspace(path), "x" * 200_000
    for attempt in (
        lambda: workspace.artefact("note", Note, 1, noted(long)),
        lambda: workspace.append("note", "key", Note(Path("x"), long)),
    ):
        try:
            attempt()
        except WorkbenchError as error:
            report(f"refused: {error.remedy}")


def program(function: str, *arguments) -> subprocess.Popen:
    """A function of this module in a process of its own."""
    start = "import sys; from tests import stores; getattr(stores, sys.argv[1])(*sys.argv[2:])"
    command = [sys.executable, "-c", start, function, *map(str, arguments)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True)


def outputs(processes) -> list[str]:
    """What processes wrote to standard output; all of them must succeed."""
    written = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return written
