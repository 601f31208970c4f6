"""The output of a worker and the end of its process; anything other than results becomes an error with a remedy."""

from __future__ import annotations

import collections
import contextlib
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import WorkbenchError

#: Lines of the host's output that an error quotes.
QUOTED = 8
#: Pattern in the host's output -> remedy.
REMEDIES = (
    (r"No module named '?numpy", "install NumPy for that Python: python3 -m pip install numpy"),
    (r"No module named", "install what is missing for that Python"),
    (r"SyntaxError|unsupported operand|f-string", "the host needs Python 3.10 or later: name one in the command"),
    (
        r"Permission denied \(publickey|Host key verification|Could not resolve|Connection (refused|timed out)",
        "try the same command by hand; ssh must log in without a question",
    ),
    (r"No space left", "free some space on the host, or give it another cache folder"),
    (r"arrived damaged", "try again; if it stays so, something between the two machines changes what is sent"),
    (r"[Cc]annot connect to the Docker daemon", "start docker there, or allow this user to use it"),
    (r"MemoryError|bad_alloc|[Oo]ut of memory", "lower the batch, or free memory on the host"),
)


@dataclass
class Answer:
    """The output of a worker, and the end of its process.

    Attributes:
        archive: the file with its standard output.
        bytes: the length of that file.
        digest: the SHA-256 of that file.
        missing: its message ``missing``: digests of files that it needs first.
        error: its message ``error``, with ``what``, ``why`` and ``remedy``.
        sent: its message ``sent``, with ``sha256`` and ``bytes``.
        printed: the last lines that are no messages.
        status: the exit status of the process; below zero for the signal that ended it.
    """

    archive: Path
    bytes: int = 0
    digest: str = ""
    missing: tuple[str, ...] = ()
    error: Mapping | None = None
    sent: Mapping | None = None
    printed: collections.deque = field(default_factory=lambda: collections.deque(maxlen=QUOTED))
    status: int = 0

    def checked(self, name: str) -> Path:
        """The archive, when the worker of this host ended well and all that it sent arrived.

        Raises:
            WorkbenchError: the worker's own error; or why it sent no results.
        """
        if self.error:
            what = f"{self.error['what']} (on host {name})"
            raise WorkbenchError(what, why=self.error["why"], remedy=self.error["remedy"])
        if self.missing:
            raise WorkbenchError(
                f"Host {name!r} does not keep what it was sent",
                why=f"{len(self.missing)} files were sent and are missing all the same",
                remedy="look at the disk of its cache folder",
            )
        if self.status:
            raise self._crash(name)
        if self.sent is None or (self.sent["sha256"], self.sent["bytes"]) != (self.digest, self.bytes):
            raise self._other_output(name)
        return self.archive

    def _crash(self, name: str) -> WorkbenchError:
        printed = "\n".join(self.printed)
        how = f"ended with status {self.status}"
        remedy = next((remedy for pattern, remedy in REMEDIES if re.search(pattern, printed)), None)
        # a shell, ssh, docker and srun report a killed program as 128 + its signal
        number = -self.status if self.status < 0 else self.status - 128
        if number in set(signal.Signals):
            how = f"was killed by {signal.Signals(number).name}"
            remedy = remedy or "if nobody killed it, the host ran out of memory, or a driver crashed: see its logs"
        return WorkbenchError(
            f"The worker on host {name!r} {how}",
            why=f"its last lines were: {printed}" if printed else "it printed nothing",
            remedy=remedy or "run the host's command by hand; it must start Python 3.10 or later",
        )

    def _other_output(self, name: str) -> WorkbenchError:
        begin = b""
        with contextlib.suppress(OSError), open(self.archive, "rb") as file:
            begin = file.read(60)
        announced = f"; it announced {self.sent['bytes']}" if self.sent else " and no checksum"
        return WorkbenchError(
            f"Host {name!r} sent something else than results",
            why=f"{self.bytes} bytes came{announced}; they begin with {begin!r}",
            remedy="its standard output must be silent: no greeting from a login script, no other program's output",
        )
