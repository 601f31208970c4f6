"""The engine with the original model behind it: when the engine fails, the original answers, and says why.

Two kinds of failure differ in what follows:

- The process crashed, hung or raised an error. It is started again after a pause, and serves again once it computes
  the golden logits. The pause doubles with each start that fails.
- The engine could not be opened at first, computed NaN where the original does not, or drifted from the golden
  logits. The original serves until somebody deploys a bundle again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import WorkbenchError
from .engine_process import EngineProcess
from .golden import golden_error, golden_fault

ENGINE, ORIGINAL = "engine", "original"
#: The longest pause before a crashed engine is started again, and how long its first calls may take, seconds.
LONGEST_PAUSE_S, FIRST_CALLS_S = 60.0, 300.0
NAN = "the engine computed NaN or infinity where the original does not"


@dataclass(frozen=True)
class Watch:
    """How an engine is watched.

    Attributes:
        limit_s: seconds after which a call hangs, and its process is ended.
        check_s: seconds between checks of the golden logits while the engine serves.
        pause_s: seconds before a crashed engine is started again the first time.
    """

    limit_s: float = 30.0
    check_s: float = 60.0
    pause_s: float = 1.0


@dataclass(frozen=True, eq=False)
class GoldenCheck:
    """Golden images (N, H, W, 3) and logits (N, classes), the engine's tolerance, and images per call."""

    images: np.ndarray
    logits: np.ndarray
    tolerance: float
    batch: int

    def fault(self, process: EngineProcess, stream: int, limit_s: float) -> str:
        """What is wrong with the logits that an engine computes; empty when nothing is.

        Raises:
            WorkbenchError: the engine did not compute them.
        """
        error = golden_error(lambda x: process.run(stream, x, limit_s), self.images, self.logits, self.batch)
        return golden_fault("the engine", error, self.tolerance)


class Fallback:
    """Logits of the engine, or of the original while the engine does not serve. A context manager.

    Args:
        start: starts the engine's process.
        original: logits (n, classes) of images (n, H, W, 3) by the original model; several threads call it.
        check: the golden check of the engine.
        watch: how the engine is watched.
        streams: how many streams the engine has.
        refusal: why the engine must not even be started; empty where it may.
        on_fallback: called each time the original takes over.
    """

    def __init__(
        self,
        start: Callable[[], EngineProcess],
        original: Callable[[np.ndarray], np.ndarray],
        check: GoldenCheck,
        *,
        watch: Watch,
        streams: int,
        refusal: str = "",
        on_fallback: Callable[[], object] = lambda: None,
    ):
        self._start, self._original, self._check = start, original, check
        self._watch, self._streams, self._on_fallback = watch, streams, on_fallback
        self._changed = threading.Condition()
        self._process: EngineProcess | None = None
        self._broken: list[EngineProcess] = []
        self._reason, self._pause_s, self._closed = refusal, watch.pause_s, False
        #: When the engine is to be started again, or checked again; None is never.
        self._due: float | None = None
        if refusal:
            on_fallback()
        else:
            self._start_engine(again=False)
        self._watcher = threading.Thread(target=self._keep_watch, name="engine watch", daemon=True)
        self._watcher.start()

    @property
    def active(self) -> str:
        """``engine`` or ``original``: which model answers now."""
        return ORIGINAL if self._process is None else ENGINE

    @property
    def reason(self) -> str:
        """Why the original serves; empty while the engine does."""
        return self._reason

    @property
    def pid(self) -> int | None:
        """The number of the engine's process while it serves."""
        process = self._process
        return process.pid if process else None

    def logits(self, stream: int, images: np.ndarray) -> tuple[np.ndarray, str]:
        """Logits (n, classes) of images (n, H, W, 3), and which model computed them.

        Raises:
            WorkbenchError: the original failed as well.
        """
        process = self._process
        if process is None:
            return self._original(images), ORIGINAL
        try:
            found = process.run(stream, images, self._watch.limit_s)
        except Exception as error:  # whatever it was, the request must be answered
            self._fall_back(process, _in_a_line(error), again=True)
            return self._original(images), ORIGINAL
        if np.isfinite(found).all():
            return found, ENGINE
        original = self._original(images)
        if np.isfinite(original).all():
            self._fall_back(process, NAN, again=False)
        return original, ORIGINAL

    def close(self) -> None:
        """End the engine's process; calling it again does nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._watcher.join()
        process, self._process = self._process, None
        for each in (*self._broken, *([process] if process else [])):
            each.close()
        self._broken = []

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _fall_back(self, process: EngineProcess | None, reason: str, *, again: bool) -> None:
        """Let the original serve in place of ``process``; the first of several streams that fail counts."""
        with self._changed:
            if self._process is not process:
                return
            self._process, self._reason = None, reason
            self._due = time.monotonic() + self._pause_s if again else None
            if process:
                process.kill()
                self._broken.append(process)
            self._changed.notify_all()
        self._on_fallback()

    def _start_engine(self, *, again: bool) -> None:
        """Start the engine and let it serve when it computes the golden logits on every stream."""
        process = None
        try:
            process = self._start()
            faults = [self._check.fault(process, stream, FIRST_CALLS_S) for stream in range(self._streams)]
            fault = next(filter(None, faults), "")
        except Exception as error:
            fault = _in_a_line(error)
        else:
            again = False
        if fault:
            if process:
                process.close()
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._fall_back(None, fault, again=again)
            return
        with self._changed:
            self._process, self._reason, self._pause_s = process, "", self._watch.pause_s
            self._due = time.monotonic() + self._watch.check_s

    def _check_engine(self, process: EngineProcess) -> None:
        try:
            fault, again = self._check.fault(process, 0, self._watch.limit_s), False
        except Exception as error:
            fault, again = _in_a_line(error), True
        if fault:
            self._fall_back(process, fault, again=again)
            return
        with self._changed:
            if self._process is process:  # else it failed meanwhile, and the time of its restart is set
                self._due = time.monotonic() + self._watch.check_s

    def _keep_watch(self) -> None:
        """Free the processes that ended, start the engine again, and check it, each when it is time."""
        while True:
            with self._changed:
                while not (self._closed or self._broken or self._is_due()):
                    self._changed.wait(None if self._due is None else max(0.0, self._due - time.monotonic()))
                if self._closed:
                    return
                broken, self._broken = self._broken, []
                process, is_due = self._process, self._is_due()
            for each in broken:
                each.close()
            if is_due and process:
                self._check_engine(process)
            elif is_due:
                self._start_engine(again=True)

    def _is_due(self) -> bool:
        return self._due is not None and time.monotonic() >= self._due


def _in_a_line(error: Exception) -> str:
    return f"{error.what}: {error.why}" if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
