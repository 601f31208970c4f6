"""The service's side of a worker process: starts it, calls it with a time limit, ends it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, cast

import numpy as np

from ..datasets.model_input import in_layout
from ..errors import WorkbenchError
from ..records import Engine, encode
from .classifier import padded
from .slots import Slots

_REMEDY = "see its reason; where it comes again, build the engine again or deploy another bundle"


class EngineFailed(WorkbenchError):
    """The engine's process ended, did not answer in time, or could not compute."""


class EngineProcess:
    """An engine opened in a process of its own, with one slot a stream. A context manager that ends the process.

    Args:
        engine: what to open; its files are on this machine.
        classes: logits of an image.
        streams: how many calls may run at the same time.
        start_s: seconds until the engine must be open.

    Raises:
        EngineFailed: the process does not start, refuses the engine, or is not ready in time.
        WorkbenchError: there is no room for its slots.
    """

    def __init__(self, engine: Engine, classes: int, streams: int = 1, start_s: float = 120.0):
        self.engine, most = engine, engine.batches.max
        self._slots = Slots(streams, engine.variant.graph.image_shape, classes, most)
        self._locks = [threading.Lock() for _ in range(streams)]
        self._replies: list[queue.SimpleQueue[dict | None]] = [queue.SimpleQueue() for _ in range(streams)]
        self._ready: queue.SimpleQueue[dict | None] = queue.SimpleQueue()
        self._log, self._write_lock = self._slots.folder / "log", threading.Lock()
        self._process = self._started()
        self._to, self._from = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        threading.Thread(target=self._read, daemon=True).start()
        paths = list(map(str, self._slots.paths))
        try:
            self._send({"engine": encode(engine), "slots": paths, "most": most, "classes": classes})
            #: Facts about the runtime there.
            self.environment: dict = self._reply(self._ready, start_s, "open")["ready"]
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def run(self, stream: int, images: np.ndarray, limit_s: float) -> np.ndarray:
        """Compute one batch.

        Args:
            stream: which of the engine's streams; calls of one stream wait for each other.
            images: normalised (n, H, W, 3) float32, n up to the engine's largest batch.
            limit_s: seconds after which the process is ended, because it hangs.

        Returns:
            Logits (n, classes) float32. They may be NaN: that is not looked at here.

        Raises:
            EngineFailed: the process ended, hung, or could not compute.
        """
        graph, batches = self.engine.variant.graph, self.engine.batches
        feed = in_layout(padded(images, batches.min), graph.preprocessing.layout)
        with self._locks[stream]:
            slot_images, slot_logits = self._slots.arrays[stream]
            slot_images[: len(feed)] = feed
            self._send({"stream": stream, "images": len(feed)})
            self._reply(self._replies[stream], limit_s, "answer")
            return slot_logits[: len(images)].copy()

    def kill(self) -> None:
        """End the process at once; calls that wait for it fail."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def close(self) -> None:
        """End the process and free its slots; calling it again does nothing."""
        self.kill()
        self._process.wait()
        for pipe in (self._to, self._from):
            with contextlib.suppress(OSError):  # what a broken pipe still holds cannot be flushed
                pipe.close()
        self._slots.free()

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _started(self) -> subprocess.Popen:
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        with open(self._log, "wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "workbench.deployment.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path},
                cwd=self._slots.folder,  # Python would import modules from the folder that it starts in
            )

    def _send(self, message: dict) -> None:
        line = json.dumps(message).encode() + b"\n"
        try:
            with self._write_lock:
                self._to.write(line)
                self._to.flush()
        except (OSError, ValueError) as error:
            raise self._ended() from error

    def _read(self) -> None:
        """Give each reply to the call that waits for it; at the end of the process, None to every one."""
        with contextlib.suppress(OSError, ValueError):
            for line in self._from:
                message = json.loads(line)
                waiting = self._ready if "stream" not in message else self._replies[message["stream"]]
                waiting.put(message)
        for waiting in (self._ready, *self._replies):
            waiting.put(None)

    def _reply(self, waiting: queue.SimpleQueue, limit_s: float, what: str) -> dict:
        try:
            message = waiting.get(timeout=limit_s)
        except queue.Empty:
            self.kill()
            why = f"it did not {what} within {limit_s:g} s, and was ended"
            raise EngineFailed("The engine's process hangs", why=why, remedy=_REMEDY) from None
        if message is None:
            waiting.put(None)  # for whoever asks next
            raise self._ended()
        if "error" in message:
            raise EngineFailed(**_sentences(message["error"]))
        return message

    def _ended(self) -> EngineFailed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.returncode
        how = f"with code {code}" if code is None or code >= 0 else f"by {_signal_name(-code)}"
        last = self._last_words()
        return EngineFailed("The engine's process ended", why=f"it ended {how}{last}", remedy=_REMEDY)

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._log.read_text(errors="replace").strip().splitlines()[-3:]
            return f"; its last words: {' / '.join(lines)[-400:]}" if lines else ""
        return ""


def _sentences(error: dict) -> dict:
    return {name: str(error.get(name, "")) for name in ("what", "why", "remedy")}


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
