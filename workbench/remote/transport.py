"""One call of a worker in another process: send a zip, follow its progress, receive a tar, survive what it does."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..digests import file_digest
from ..errors import WorkbenchError
from ..progress import Progress
from .reply import Reply

#: Bytes that a host may send back.
MAX_BYTES = 16 << 30
#: Seconds that a process gets to end after it was asked to.
GRACE_S = 3
#: Seconds between two looks at a host that is silent.
PAUSE_S = 0.1

#: The first program on the host. It reads the zip's digest and length from its arguments and the zip from standard
#: input, checks it, and runs the worker out of it. One line, so that every kind of command can carry it.
BOOT = (
    "import sys,tempfile,hashlib;"
    'i=sys.stdin.buffer;n=int(sys.argv[2]);f=tempfile.NamedTemporaryFile(suffix=".zip");s=hashlib.sha256();'
    '[(f.write(b),s.update(b)) for b in iter(lambda:i.read(min(1<<20,n-f.tell())),b"")];'
    "f.flush();"
    's.hexdigest()==sys.argv[1] or sys.exit("the job arrived damaged");'
    "sys.path.insert(0,f.name);"
    "import workbench.remote.worker as w;"
    "sys.exit(w.main(f.name))"
)


def call(
    command: Sequence[str],
    archive: Path,
    answer: Path,
    *,
    quote: Callable[[str], str],
    limit_s: float,
    name: str,
    progress: Progress,
    limit_bytes: int = MAX_BYTES,
) -> Reply:
    """Start Python by a command, send it a job, and wait for what it sends.

    Args:
        command: the words that start Python.
        archive: the zip to send.
        answer: where the tar is written.
        quote: how words are written for the shell that the command passes them to.
        limit_s: seconds after which the worker is killed.
        name: the host, for messages.
        progress: is called in this thread; whatever it raises kills the worker.
        limit_bytes: bytes after which the worker is killed.

    Raises:
        WorkbenchError: the command cannot be started, or a limit was passed.
    """
    words = ["-c", BOOT, file_digest(archive), str(archive.stat().st_size)]
    try:
        # A session of its own has no terminal, so that ssh fails where it would ask for a password.
        process = subprocess.Popen(
            [*command, *map(quote, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise WorkbenchError(
            f"The command of host {name!r} cannot be started",
            why=f"{command[0]}: {error.strerror or error}",
            remedy="check its spelling; the program must be on the PATH",
        ) from error
    said = Reply(answer)
    events: queue.SimpleQueue = queue.SimpleQueue()
    tasks = [
        threading.Thread(target=task, args=args, daemon=True)
        for task, args in (
            (_send, (process, archive)),
            (_listen, (process, said, events)),
            (_receive, (process, said, events, limit_bytes)),
        )
    ]
    try:
        for task in tasks:
            task.start()
        _wait(process, tasks[1:], events, progress, time.monotonic() + limit_s, limit_s, name)
    finally:
        _end(process, sender=tasks[0])
        for task in tasks:
            task.join(GRACE_S)
        _close(process.stdin)
    said.status = process.returncode
    return said


def _send(process: subprocess.Popen, archive: Path) -> None:
    """Send the job and leave the pipe open: its end tells the worker that nobody waits any more."""
    with contextlib.suppress(OSError), open(archive, "rb") as file:
        shutil.copyfileobj(file, process.stdin, 1 << 20)
        process.stdin.flush()


def _listen(process: subprocess.Popen, said: Reply, events: queue.SimpleQueue) -> None:
    with process.stderr:
        while line := process.stderr.readline(1 << 16):
            match _message(line):
                case "stage", event:
                    events.put(event)
                case "error", message:
                    said.error = message["error"]
                case "missing", message:
                    said.missing = tuple(message["missing"])
                case "sent", message:
                    said.sent = message["sent"]
                case None:
                    said.printed.append(line.decode(errors="replace").rstrip()[:400])


#: The lines that a worker writes, by the key that tells them apart.
_OURS = {
    "stage": {"stage": str, "done": int, "total": int},
    "error": {"error": {"what": str, "why": str, "remedy": str}},
    "missing": {"missing": [str]},
    "sent": {"sent": {"sha256": str, "bytes": int}},
}


def _message(line: bytes) -> tuple[str, dict] | None:
    """A line of ours and its kind, or None for what a library printed."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kind = next((kind for kind, shape in _OURS.items() if _fits(message, shape)), None)
    return (kind, message) if kind else None


def _fits(value, shape) -> bool:
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(_fits(value.get(key), inner) for key, inner in shape.items())
    if isinstance(shape, list):
        return isinstance(value, list) and all(_fits(item, shape[0]) for item in value)
    return isinstance(value, shape)


def _receive(process: subprocess.Popen, said: Reply, events: queue.SimpleQueue, limit: int) -> None:
    total = hashlib.sha256()
    try:
        with process.stdout, open(said.archive, "wb") as file:
            while block := process.stdout.read1(1 << 20):
                file.write(block)
                total.update(block)
                said.bytes += len(block)
                if said.bytes > limit:
                    events.put(OverflowError(f"more than {limit:,} bytes"))
                    return
    except OSError as error:
        events.put(error)
    said.digest = total.hexdigest()


def _wait(process, tasks, events, progress: Progress, deadline: float, limit_s: float, name: str) -> None:
    now = (f"start {name}", 0, 1)
    while _runs(process, tasks):
        with contextlib.suppress(queue.Empty):
            now = _told(events.get(timeout=PAUSE_S), name)
        progress(*now)  # also while the host is silent, because this is where a caller can cancel
        if time.monotonic() > deadline:
            raise WorkbenchError(
                f"The job on host {name!r} took longer than {limit_s:g} s and was stopped",
                why="it was still running, or its process hung",
                remedy="raise the host's limit_s, or look at what runs there",
            )
    with contextlib.suppress(queue.Empty):
        while True:
            progress(*_told(events.get_nowait(), name))


def _runs(process: subprocess.Popen, tasks: Sequence[threading.Thread]) -> bool:
    """Whether the process or what it wrote is still on its way; a child that it left behind may hold the pipes."""
    if process.poll() is not None:
        for task in tasks:
            task.join(GRACE_S)
        return False
    return True


def _told(event, name: str) -> tuple[str, int, int]:
    """Stage, done and total of a progress event; raises what a listening thread met."""
    if isinstance(event, OSError):
        raise event
    if isinstance(event, OverflowError):
        raise WorkbenchError(
            f"Host {name!r} sends too much",
            why=str(event),
            remedy="its standard output must carry the results alone",
        )
    return event["stage"], event["done"], event["total"]


def _end(process: subprocess.Popen, sender: threading.Thread) -> None:
    """End a process and its children. The end of its input comes first: a worker then tidies up, behind ssh too."""
    if not sender.is_alive():  # while it is blocked in a write, the pipe cannot be closed
        _close(process.stdin)
        _wait_briefly(process)
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        _wait_briefly(process)
    with contextlib.suppress(ProcessLookupError):  # whatever is left of it, children that it left behind included
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _close(pipe) -> None:
    with contextlib.suppress(OSError):  # what was not flushed has nobody left to read it
        pipe.close()


def _wait_briefly(process: subprocess.Popen) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
