"""Work in a thread of its own: its progress, how to cancel it, and its outcome. It uses no widgets."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import Cancelled
from ..progress import Progress

#: Lines of the log that a job keeps.
LOG_LINES = 200


@dataclass(frozen=True)
class Status:
    """The progress of a job.

    Attributes:
        state: ``running``, ``cancelling``, ``done``, ``failed`` or ``cancelled``.
        stage: the name that the work gives its present step; empty before its first report.
        done: units of the stage that are finished, of ``total``; ``total`` is 0 where it is not known.
        elapsed_s: seconds since the start, until now or until the end.
        remaining_s: seconds left at the pace so far, or None while there is no pace. The pace is that of the
            present count, which begins when ``total`` changes or ``done`` falls.
        log: the newest lines, oldest first.
    """

    state: str
    stage: str
    done: int
    total: int
    elapsed_s: float
    remaining_s: float | None
    log: tuple[str, ...]

    @property
    def alive(self) -> bool:
        """Whether the work still runs."""
        return self.state in ("running", "cancelling")


class Job:
    """One run of ``work(progress)`` in a thread.

    ``cancel`` makes the next call of ``progress`` raise ``Cancelled`` inside the work. Every long function of the
    workbench calls ``progress``, and leaves nothing half-done when it raises.
    """

    def __init__(self, work: Callable[[Progress], Any]):
        self._work = work
        self._lock = threading.Lock()
        self._cancel, self._ended = threading.Event(), threading.Event()
        self._begun = time.monotonic()
        self._origin = (self._begun, 0)  # when the present count began, and where
        self._took: float | None = None
        self._stage, self._done, self._total = "", 0, 0
        self._stages: set[str] = set()
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._value, self._error = None, None
        self._thread = threading.Thread(target=self._run, name="workbench-job", daemon=True)

    def start(self) -> Job:
        """Start the thread; a job runs once."""
        self._thread.start()
        return self

    def cancel(self) -> None:
        """Ask the work to stop at its next report of progress."""
        self._cancel.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, at most ``timeout`` seconds, and return whether the work has ended."""
        return self._ended.wait(timeout)

    def outcome(self):
        """Wait for the end and return what the work returned, or raise what it raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._value

    @property
    def error(self) -> BaseException | None:
        """What the work raised, or None."""
        return self._error

    def status(self) -> Status:
        """The progress of the job now."""
        with self._lock:
            elapsed = time.monotonic() - self._begun if self._took is None else self._took
            return Status(
                self._state(), self._stage, self._done, self._total, elapsed, self._remaining(), tuple(self._log)
            )

    def _state(self) -> str:
        if self._took is None:
            return "cancelling" if self._cancel.is_set() else "running"
        if self._error is None:
            return "done"
        return "cancelled" if isinstance(self._error, Cancelled) else "failed"

    def _remaining(self) -> float | None:
        since, first = self._origin
        if self._took is not None or not first < self._done <= self._total:
            return None
        return (time.monotonic() - since) * (self._total - self._done) / (self._done - first)

    def _progress(self, stage: str, done: int, total: int) -> None:
        if self._cancel.is_set():
            raise Cancelled
        with self._lock:
            now = time.monotonic()
            self._stage = stage
            if stage not in self._stages:  # each stage is logged once, however often the work returns to it
                self._stages.add(stage)
                self._log.append(f"{now - self._begun:6.1f} s  {stage}")
            if total != self._total or done < self._done:
                self._origin = (now, done)
            self._done, self._total = done, total

    def _run(self) -> None:
        value, error = None, None
        handler = _ThisThread(self._log)
        logging.getLogger().addHandler(handler)
        try:
            value = self._work(self._progress)
        except BaseException as raised:  # outcome() raises it where the result is asked for
            error = raised
        finally:
            logging.getLogger().removeHandler(handler)
        with self._lock:
            self._value, self._error = value, error
            self._took = time.monotonic() - self._begun
        self._ended.set()


class _ThisThread(logging.Handler):
    """Copies what the work's own thread logs into the job's log."""

    def __init__(self, lines: deque[str]):
        super().__init__()
        self._lines, self._thread = lines, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._lines.append(f"{record.levelname.lower()}: {record.getMessage()}")
