"""The worker process: opens an engine and runs it, so that a crash of a driver ends this process and no other.

Lines of JSON come on standard input and go out on standard output; images and logits lie in slots (``slots``).

- in, first: ``{"engine": …, "slots": [path, …], "most": images, "classes": n}``; a slot is a stream
- out, then: ``{"ready": {…}}`` with the runtime's facts, or ``{"error": {"what": …, "why": …, "remedy": …}}``
- in: ``{"stream": i, "images": n}``, the first n images of slot i wait to be computed
- out: ``{"stream": i}``, its logits lie in the slot; or ``{"stream": i, "error": {…}}``

The end of standard input ends the process.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import TextIO

from ..backends import open_streams
from ..errors import WorkbenchError
from ..records import Engine, decode
from .requirements import unmet_requirement
from .slots import map_slot


def main() -> int:
    """Serve until standard input ends; 3 when the engine cannot be opened."""
    replies = Replies(_own_stdout())
    try:
        request = json.loads(sys.stdin.readline())
        engine = decode(Engine, request["engine"])
        if refusal := unmet_requirement(engine):
            raise refusal.error(f"{engine.label} cannot run here")
        sessions = open_streams(engine, len(request["slots"]))
    except Exception as error:
        replies.send(error=_as_values(error))
        return 3
    replies.send(ready=dict(sessions[0].environment))
    streams = [Stream(i, session, engine, request, replies) for i, session in enumerate(sessions)]
    for line in sys.stdin:
        asked = json.loads(line)
        streams[asked["stream"]].calls.put(asked["images"])
    os._exit(0)  # a call that still runs must not keep the process: nobody waits for it


class Stream:
    """One session, its slot, and the thread that runs it."""

    def __init__(self, index: int, session, engine: Engine, request: dict, replies: Replies):
        graph = engine.variant.graph
        slot = Path(request["slots"][index])
        self.images, self.logits = map_slot(slot, graph.image_shape, request["classes"], request["most"])
        self.index, self._session, self._replies = index, session, replies
        self._input, self._output = graph.input_name, graph.output_name
        self.calls: queue.SimpleQueue[int] = queue.SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            count = self.calls.get()
            try:
                found = self._session.run({self._input: self.images[:count]})[self._output]
                self.logits[:count] = found
            except Exception as error:
                self._replies.send(stream=self.index, error=_as_values(error))
            else:
                self._replies.send(stream=self.index)


class Replies:
    """Lines of JSON to the service, from several threads."""

    def __init__(self, file: TextIO):
        self._file, self._lock = file, threading.Lock()

    def send(self, **message) -> None:
        """Write one line."""
        with self._lock:
            self._file.write(json.dumps(message) + "\n")
            self._file.flush()


def _as_values(error: Exception) -> dict:
    if isinstance(error, WorkbenchError):
        return {"what": error.what, "why": error.why, "remedy": error.remedy}
    why = f"{type(error).__name__}: {error}"[:2000]
    return {"what": "The engine failed", "why": why, "remedy": "build the engine again"}


def _own_stdout() -> TextIO:
    """Standard output for replies alone; what libraries print goes to standard error instead."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


if __name__ == "__main__":
    sys.exit(main())
