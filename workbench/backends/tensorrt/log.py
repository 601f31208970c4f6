"""TensorRT's log of a build, kept in a file, and the build's progress.

TensorRT calls objects of ours from its C++ code: a logger, and from 10 on a progress monitor.
"""

from __future__ import annotations

import contextlib
import functools
import time
from pathlib import Path
from typing import TextIO

from ...errors import Cancelled
from ...progress import Progress
from .versions import VersionAdapter


class BuildLog:
    """The one logger that TensorRT has in a process; it writes to the file of the build that runs now.

    TensorRT ignores every logger but the first while any of its objects lives, so all builds use the same one:
    ``BuildLog.of`` makes one for each module.
    """

    def __init__(self, adapter: VersionAdapter):
        outer, base = self, adapter.module.ILogger

        class Logger(base):
            def __init__(self):
                base.__init__(self)

            def log(self, severity, message):
                outer._write(severity.name, message)

        self.logger = Logger()
        self._file: TextIO | None = None
        self._watch: BuildWatch | None = None
        self.errors: list[str] = []

    @staticmethod
    @functools.cache
    def of(adapter: VersionAdapter) -> BuildLog:
        """The log of a module."""
        return BuildLog(adapter)

    @contextlib.contextmanager
    def into(self, path: Path | str):
        """Write all messages inside the block to a file, and collect the errors in ``errors``."""
        with open(path, "w", errors="replace") as file:
            self._file, self._watch, self.errors = file, None, []
            try:
                yield self
            finally:
                self._file = self._watch = None

    def follow(self, watch: BuildWatch) -> None:
        """Report progress by the lines of the log, for versions that have no IProgressMonitor."""
        self._watch = watch

    def _write(self, severity: str, message: str) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk must not throw through C++; writing the engine will
                self._file.write(f"[{severity}] {message}\n")
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self.errors.append(message)
        if self._watch is not None:
            self._watch.log_line(message)


class BuildWatch:
    """Reports a build's progress, and stops the build when ``progress`` raises or the time limit has passed.

    An exception must not travel through TensorRT's C++ code, so it is stored until the build has returned.
    """

    def __init__(self, progress: Progress, limit_s: float):
        self._progress, self._deadline, self._limit = progress, time.monotonic() + limit_s, limit_s
        self._steps: dict[str, int] = {}
        self._timed = 0
        self._stopped: BaseException | None = None

    def phase_start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of ``steps`` steps begins."""
        self._steps[name] = steps
        self._report(name, 0, steps)

    def phase_finish(self, name: str) -> None:
        """A phase has ended."""
        steps = self._steps.pop(name, 0)
        self._report(name, steps, steps)

    def step_complete(self, name: str, step: int) -> bool:
        """A step of a phase is done; False asks TensorRT to stop."""
        self._report(name, step + 1, self._steps.get(name, 0))
        return self._stopped is None

    def log_line(self, message: str) -> None:
        """A line of the log: each layer that is timed is a step; their total number is not known."""
        if "Timing Runner" in message or "Autotuning" in message:
            self._timed += 1
            self._report("time kernels", self._timed, 0)

    def raise_if_stopped(self) -> None:
        """Raise the exception that ``progress`` raised, or ``Cancelled`` when the time limit has passed."""
        if self._stopped is not None:
            raise self._stopped

    def _report(self, stage: str, done: int, total: int) -> None:
        if self._stopped is not None:
            return
        try:
            self._progress(stage, done, total)
        except BaseException as stop:
            self._stopped = stop
        if time.monotonic() > self._deadline:
            self._stopped = Cancelled(
                "The build was given up",
                why=f"it took longer than {self._limit:g} s",
                remedy="raise the option time_limit_s, or lower optimization_level",
            )
