"""The ledger of a workspace: observations in a SQLite file. They are appended, and a killed process loses none."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Generator
from pathlib import Path

from .errors import WorkbenchError
from .files import scratch_folder, text_or_empty

LEDGER = "ledger.sqlite3"
#: The first letters of the types of file systems that several machines may share. SQLite's write-ahead log (WAL)
#: needs shared memory, so it "does not work over a network filesystem" (https://www.sqlite.org/wal.html).
NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "9p", "fuse", "lustre", "ceph", "gluster", "gpfs", "beegfs", "afs")


def new_run_id() -> str:
    """A name for one observation: the time at which it began (UTC) and four random bytes."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + "-" + secrets.token_hex(4)


class Ledger:
    """The observations in a folder. Every call opens and closes the file, so processes can share it."""

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / LEDGER

    def append(self, run_id: str, kind: str, key: str, body: str) -> None:
        """Append one observation; it is on the disk when this returns.

        Args:
            run_id: the name of this observation.
            kind: what sort of observation it is.
            key: what was observed.
            body: the record as JSON.

        Raises:
            WorkbenchError: the disk is full or read-only, or the file is no ledger.
        """
        with self._open() as ledger:
            ledger.execute(
                "INSERT INTO observations (run_id, taken, kind, key, body) VALUES (?, ?, ?, ?, ?)",
                (run_id, time.time(), kind, key, body),
            )

    def rows(self, kind: str, key: str | None = None) -> list[tuple[str, str]]:
        """Run id and body of all observations of a kind (and key), oldest first, as text whatever was stored.

        Raises:
            WorkbenchError: the file is no ledger.
        """
        if not self.path.exists():
            return []
        clause, values = ("", (kind,)) if key is None else (" AND key = ?", (kind, key))
        with self._open() if os.access(self.folder, os.W_OK) else self._copied() as ledger:
            # a cast gives text for the blobs and numbers that another program may have stored
            query = f"SELECT CAST(run_id AS TEXT), CAST(body AS TEXT) FROM observations WHERE kind = ?{clause}"
            return [(run_id or "", body or "") for run_id, body in ledger.execute(f"{query} ORDER BY id", values)]

    def knows(self, run_id: str) -> bool:
        """Whether an observation of this name was appended.

        Raises:
            WorkbenchError: the file is no ledger.
        """
        if not self.path.exists():
            return False
        with self._open() as ledger:
            found = ledger.execute("SELECT 1 FROM observations WHERE run_id = ? LIMIT 1", (run_id,))
            return found.fetchone() is not None

    @contextlib.contextmanager
    def _copied(self) -> Generator[sqlite3.Connection]:
        """A copy to read from: SQLite writes beside a WAL database even to read it, and this disk is read-only."""
        with scratch_folder() as folder:
            for file in self.folder.glob(f"{LEDGER}*"):
                shutil.copy(file, folder)
            with Ledger(folder)._open() as ledger:
                yield ledger

    @contextlib.contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self.path, timeout=60, isolation_level="IMMEDIATE")
            connection.text_factory = lambda content: content.decode(errors="replace")
            try:
                # A statement waits until other processes are done. A killed writer leaves the last commit intact.
                connection.execute(f"PRAGMA journal_mode={_journal_mode(self.folder.resolve())}")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS observations (id INTEGER PRIMARY KEY, run_id TEXT NOT NULL,"
                    " taken REAL NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL)"
                )
                connection.execute("CREATE INDEX IF NOT EXISTS by_key ON observations (kind, key)")
                with connection:
                    yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise WorkbenchError(
                f"The ledger {self.path} cannot be used",
                why=str(error),
                remedy="check that the disk has room and the folder is writable; "
                "a damaged file can be moved away, the artefacts do not depend on it",
            ) from error


@functools.cache
def _journal_mode(path: Path) -> str:
    return "DELETE" if _file_system(path).startswith(NETWORK_FILE_SYSTEMS) else "WAL"


def _file_system(path: Path) -> str:
    """The type of the file system that holds ``path``, from /proc/mounts; empty without such a file."""
    mounts = [line.split()[1:3] for line in text_or_empty("/proc/mounts").splitlines()]
    mounts = [(point.replace("\\040", " "), kind) for point, kind in mounts]  # spaces are escaped there
    holding = [
        (len(point), order, kind) for order, (point, kind) in enumerate(mounts) if path.is_relative_to(point)
    ]
    return max(holding)[2] if holding else ""  # the deepest mount; of two on the same folder the later one
