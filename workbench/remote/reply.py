"""What a worker said and sent: checked before anything of it is used."""

from __future__ import annotations

import collections
import contextlib
import re
import shutil
import signal
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import WorkbenchError
from .worker import safe_name

#: Files that may come back.
MAX_FILES = 1000
#: Lines of the host's output that an error quotes.
QUOTED = 8
#: What a host printed -> what to do about it.
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
    (r"[Cc]annot connect to the Docker daemon", "start docker there, or let this user use it"),
    (r"MemoryError|bad_alloc|[Oo]ut of memory", "lower the batch, or free memory on the host"),
)


@dataclass
class Reply:
    """What a worker said and sent."""

    archive: Path
    missing: tuple[str, ...] = ()
    error: dict | None = None
    sent: dict | None = None
    status: int | None = None
    digest: str = ""
    bytes: int = 0
    printed: collections.deque = field(default_factory=lambda: collections.deque(maxlen=QUOTED))

    def checked(self, name: str) -> Path:
        """The archive, once everything about it is right.

        Raises:
            WorkbenchError: the worker's own error; or why it sent no results.
        """
        if self.error:
            where = f" (on host {name})"
            raise WorkbenchError(self.error["what"] + where, why=self.error["why"], remedy=self.error["remedy"])
        if self.missing:
            raise WorkbenchError(
                f"Host {name!r} does not keep what it was sent",
                why=f"{len(self.missing)} files were sent and are missing all the same",
                remedy="look at the disk of its cache folder",
            )
        if self.status:
            raise self._crashed(name)
        if self.sent is None or (self.sent["sha256"], self.sent["bytes"]) != (self.digest, self.bytes):
            raise self._garbled(name)
        return self.archive

    def _crashed(self, name: str) -> WorkbenchError:
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
            why=f"its last words were: {printed}" if printed else "it printed nothing",
            remedy=remedy or "run the host's command by hand; it must start Python 3.10 or later",
        )

    def _garbled(self, name: str) -> WorkbenchError:
        with contextlib.suppress(OSError), open(self.archive, "rb") as file:
            begin = file.read(60)
        told = f"; it announced {self.sent['bytes']}" if self.sent else " and no checksum"
        return WorkbenchError(
            f"Host {name!r} sent something else than results",
            why=f"{self.bytes} bytes came{told}; they begin with {begin!r}",
            remedy="its standard output must be silent: no greeting from a login script, no other program's output",
        )


def received(archive: Path, folder: Path) -> Path:
    """Unpack a tar whose checksum was right into a new folder: plain files only, none outside it.

    Raises:
        WorkbenchError: it is no tar, or holds links, devices, too many files, or names that lead elsewhere or occur
            twice, or unpacks to more than was sent.
    """
    folder.mkdir()
    left = archive.stat().st_size
    try:
        with tarfile.open(archive, "r:") as tar:  # not compressed, so that a small file cannot fill the disk
            for count, member in enumerate(tar):
                left -= member.size
                _check_member(member, fits=count < MAX_FILES and left >= 0)
                target = folder / safe_name(member.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                with tar.extractfile(member) as source, open(target, "xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
    except (tarfile.TarError, FileExistsError, NotADirectoryError, ValueError) as error:
        raise WorkbenchError(
            "What the host sent cannot be unpacked", why=str(error), remedy="run the job again"
        ) from error
    return folder


def _check_member(member: tarfile.TarInfo, *, fits: bool) -> None:
    plain = member.isfile() and not member.issparse()
    if not plain or not fits:
        raise WorkbenchError(
            "What the host sent is not a list of results",
            why=f"{member.name!r} is no plain file, or there are more than {MAX_FILES} of them, or more bytes than "
            "were sent",
            remedy="the other end is not the workbench, or somebody changed what travelled",
        )
