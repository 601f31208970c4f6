"""One call of a worker in another process: send a zip, follow the progress, receive a tar, check how it ended.

The worker may crash, hang, be killed, or write anything: each of these becomes a ``WorkbenchError``.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
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
from .answer import Answer
from .protocol import JOB_ZIP, message_in

#: Bytes that a host may send back.
MAX_BYTES = 16 << 30
#: Seconds that a process gets to end after it was asked to.
GRACE_S = 3
#: Seconds between two looks at a host that is silent.
PAUSE_S = 0.1

#: The first program on the host. It reads the zip's digest and length from its arguments and the zip from standard
#: input, checks it, and runs the worker out of it. The zip is locked before it gets the name by which ``worker``
#: sweeps those of killed processes. One line, so that every kind of command can carry it.
BOOT = (
    "import os,sys,tempfile,hashlib,atexit,importlib.util as u;"
    'd,p=tempfile.mkstemp(".zip",".new-");q=os.path.join(os.path.dirname(p),"'
    + JOB_ZIP
    + '"+os.path.basename(p)[5:]);'
    'u.find_spec("fcntl") and exec("import fcntl;fcntl.flock(d,2)");os.rename(p,q);atexit.register(os.unlink,q);'
    'i=sys.stdin.buffer;n=int(sys.argv[2]);f=os.fdopen(d,"wb");s=hashlib.sha256();'
    '[(f.write(b),s.update(b)) for b in iter(lambda:i.read(min(1<<20,n-f.tell())),b"")];'
    "f.flush();"
    's.hexdigest()==sys.argv[1] or sys.exit("the job arrived damaged");'
    "sys.path.insert(0,q);"
    "import workbench.remote.worker as w;"
    "sys.exit(w.main(q))"
)


def call(
    command: Sequence[str],
    archive: Path,
    results: Path,
    *,
    quote: Callable[[str], str],
    limit_s: float,
    name: str,
    progress: Progress,
    limit_bytes: int = MAX_BYTES,
) -> Answer:
    """Start Python by a command, send it a job, and wait for what it sends.

    Args:
        command: the words that start Python.
        archive: the zip to send.
        results: where the tar is written.
        quote: quotes a word for the shell that the command passes it to; ``str`` where there is no shell.
        limit_s: seconds after which the worker is killed.
        name: the host, for messages.
        progress: is called in this thread; an exception that it raises ends the worker.
        limit_bytes: bytes after which the worker is killed.

    Raises:
        WorkbenchError: the command cannot be started, or a limit was passed.
    """
    words = ["-c", BOOT, file_digest(archive), str(archive.stat().st_size)]
    process = _start([*command, *map(quote, words)], name)
    link = _Link(process, Answer(results), name, limit_bytes)
    sender, *readers = (
        threading.Thread(target=task, args=arguments, daemon=True)
        for task, arguments in ((link.send, (archive,)), (link.read_messages, ()), (link.receive, ()))
    )
    try:
        for task in (sender, *readers):
            task.start()
        link.wait(readers, progress, limit_s)
    finally:
        link.end(sender)
        for task in (sender, *readers):
            task.join(GRACE_S)
        link.close_input()
    link.answer.status = process.returncode
    return link.answer


def _start(words: Sequence[str], name: str) -> subprocess.Popen:
    try:
        # A new session has no terminal, so ssh fails where it would ask for a password.
        return subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise WorkbenchError(
            f"The command of host {name!r} cannot be started",
            why=f"{words[0]}: {error.strerror or error}",
            remedy="check its spelling; the program must be on the PATH",
        ) from error


class _Link:
    """A process and its three pipes, each served by a thread; this thread waits for them and reports progress."""

    def __init__(self, process: subprocess.Popen, answer: Answer, name: str, limit_bytes: int):
        self.answer, self._process, self._name, self._limit_bytes = answer, process, name, limit_bytes
        self._input, self._output, self._messages = _pipes(process)
        #: Progress to report, or an exception of a thread to raise.
        self._events: queue.SimpleQueue[tuple[str, int, int] | Exception] = queue.SimpleQueue()

    def send(self, archive: Path) -> None:
        """Send the job and leave the pipe open: for the worker, its end means that nobody waits any more."""
        with contextlib.suppress(OSError), open(archive, "rb") as file:
            shutil.copyfileobj(file, self._input, 1 << 20)
            self._input.flush()

    def read_messages(self) -> None:
        """Read standard error to its end."""
        answer = self.answer
        with self._messages:
            while line := self._messages.readline(1 << 16):
                match message_in(line):
                    case "stage", message:
                        self._events.put((message["stage"], message["done"], message["total"]))
                    case "error", message:
                        answer.error = message["error"]
                    case "missing", message:
                        answer.missing = tuple(message["missing"])
                    case "sent", message:
                        answer.sent = message["sent"]
                    case None:
                        answer.printed.append(line.decode(errors="replace").rstrip()[:400])

    def receive(self) -> None:
        """Write standard output to the archive, as far as the limit of bytes."""
        answer, total = self.answer, hashlib.sha256()
        try:
            with self._output, open(answer.archive, "wb") as file:
                while block := self._output.read1(1 << 20):
                    file.write(block)
                    total.update(block)
                    answer.bytes += len(block)
                    if answer.bytes > self._limit_bytes:
                        self._events.put(self._too_much())
                        return
        except OSError as error:
            self._events.put(error)
        answer.digest = total.hexdigest()

    def _too_much(self) -> WorkbenchError:
        return WorkbenchError(
            f"Host {self._name!r} sends too much",
            why=f"more than {self._limit_bytes:,} bytes",
            remedy="its standard output must carry the results alone",
        )

    def wait(self, readers: Sequence[threading.Thread], progress: Progress, limit_s: float) -> None:
        """Report progress until the process has ended and its output is read; raise the exception of a thread."""
        deadline, now = time.monotonic() + limit_s, (f"start {self._name}", 0, 1)
        while self._runs(readers):
            with contextlib.suppress(queue.Empty):
                now = _progress_of(self._events.get(timeout=PAUSE_S))
            progress(*now)  # also while the host is silent, because a caller can cancel here
            if time.monotonic() > deadline:
                raise WorkbenchError(
                    f"The job on host {self._name!r} took longer than {limit_s:g} s and was stopped",
                    why="it was still running, or its process hung",
                    remedy="raise the host's limit_s, or look at what runs there",
                )
        with contextlib.suppress(queue.Empty):
            while True:
                progress(*_progress_of(self._events.get_nowait()))

    def _runs(self, readers: Sequence[threading.Thread]) -> bool:
        """Whether the process still runs; when it has ended, its output gets some time to arrive.

        A child that the process left behind may hold the pipes open.
        """
        if self._process.poll() is None:
            return True
        for reader in readers:
            reader.join(GRACE_S)
        return False

    def end(self, sender: threading.Thread) -> None:
        """End the process and its children. Its input is closed first, so that a worker can clean up."""
        process = self._process
        if not sender.is_alive():  # while it is blocked in a write, the pipe cannot be closed
            self.close_input()
            _wait_briefly(process)
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            _wait_briefly(process)
        with contextlib.suppress(ProcessLookupError):  # what is left of it, and children that it left behind
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close_input(self) -> None:
        """Close the process's standard input; what was not flushed has no reader any more."""
        with contextlib.suppress(OSError):
            self._input.close()


def _pipes(process: subprocess.Popen) -> tuple[io.BufferedWriter, io.BufferedReader, io.BufferedReader]:
    """Standard input, output and error of a process that was started with three pipes."""
    given, output, errors = process.stdin, process.stdout, process.stderr
    if not (
        isinstance(given, io.BufferedWriter)
        and isinstance(output, io.BufferedReader)
        and isinstance(errors, io.BufferedReader)
    ):
        raise TypeError("the process was started without buffered pipes")
    return given, output, errors


def _progress_of(event: tuple[str, int, int] | Exception) -> tuple[str, int, int]:
    if isinstance(event, Exception):
        raise event
    return event


def _wait_briefly(process: subprocess.Popen) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
