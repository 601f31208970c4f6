"""The ledger of a workspace: observations in a SQLite file. They are appended, and a killed process loses none."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .errors import WorkbenchError
from .files import scratch_folder, text_or_empty
from .ledger_repair import DamagedError, create_tables, is_damage, repair

T = TypeVar("T")

LEDGER = "ledger.sqlite3"
#: The first letters of the types of file systems that several machines may share. SQLite's write-ahead log (WAL)
#: needs shared memory, so it "does not work over a network filesystem" (https://www.sqlite.org/wal.html).
NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "9p", "fuse", "lustre", "ceph", "gluster", "gpfs", "beegfs", "afs")


def new_run_id() -> str:
    """A name for one observation: the time at which it began (UTC) and four random bytes."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + "-" + secrets.token_hex(4)


class Summary(NamedTuple):
    """What is computed from an observation and kept beside it, so that reading many of them is fast.

    Attributes:
        version: of the code that computed it; another version computes it anew.
        numbers: float64 values, as their bytes.
        words: JSON.
    """

    version: str
    numbers: bytes
    words: str


class Observation(NamedTuple):
    """A row of the ledger: its name, what sort it is, what was observed, the record as JSON, and its summary."""

    run_id: str
    kind: str
    key: str
    body: str
    summary: Summary | None = None


#: Run id and body of an observation.
Row = tuple[str, str]
#: A ``Row`` in SQL: the casts give text for the blobs and numbers that another program may have stored.
ROW = "COALESCE(CAST(run_id AS TEXT), ''), COALESCE(CAST(body AS TEXT), '')"
#: The newest observation of a key: its number in the ledger, the key, and the summary's numbers and words, or None.
Summarised = tuple[int, str, Any, Any]


class Ledger:
    """The observations in a folder. Every call opens and closes the file, so processes can share it.

    A damaged file is kept aside, and what can be read of it goes into a new one, see ``ledger_repair``.
    """

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / LEDGER

    # ---- writing -------------------------------------------------------------------------------------------------

    def append(self, run_id: str, kind: str, key: str, body: str) -> None:
        """Append one observation, see ``Observation``; it is on the disk when this returns.

        Raises:
            WorkbenchError: as for ``append_all``.
        """
        self.append_all([Observation(run_id, kind, key, body)])

    def append_all(self, observations: Iterable[Observation]) -> None:
        """Append observations, all of them or none; they are on the disk when this returns.

        Raises:
            WorkbenchError: the disk is full or read-only, or the file is no ledger and cannot be moved away.
        """
        observations = list(observations)

        def write(ledger: sqlite3.Connection) -> None:
            for run_id, kind, key, body, summary in observations:
                row = ledger.execute(
                    "INSERT INTO observations (run_id, taken, kind, key, body) VALUES (?, ?, ?, ?, ?)",
                    (run_id, time.time(), kind, key, body),
                )
                if summary:
                    ledger.execute(
                        "INSERT OR REPLACE INTO summaries VALUES (?, ?, ?, ?)", (row.lastrowid, *summary)
                    )

        self._with(write, writes=True)

    def keep(self, summaries: Iterable[tuple[int, Summary]]) -> None:
        """Keep summaries of observations, which are given by their numbers; nothing is kept on a read-only disk."""
        rows = [(number, *summary) for number, summary in summaries]
        if rows and os.access(self.folder, os.W_OK):
            statement = "INSERT OR REPLACE INTO summaries VALUES (?, ?, ?, ?)"
            self._with(lambda ledger: ledger.executemany(statement, rows), writes=True)

    # ---- reading -------------------------------------------------------------------------------------------------

    def rows(self, kind: str, key: str | None = None) -> list[Row]:
        """Run id and body of all observations of a kind (and key), oldest first, as text whatever was stored.

        Raises:
            WorkbenchError: the file is no ledger and cannot be moved away.
        """
        clause, values = ("", (kind,)) if key is None else (" AND key = ?", (kind, key))
        return self._read(f"SELECT {ROW} FROM observations WHERE kind = ?{clause} ORDER BY id", values)

    def knows(self, run_id: str) -> bool:
        """Whether an observation of this name was appended.

        Raises:
            WorkbenchError: the file is no ledger and cannot be moved away.
        """
        return bool(self._read("SELECT 1 FROM observations WHERE run_id = ? LIMIT 1", (run_id,)))

    def newest(self, kind: str, key: str | None = None) -> dict[str, Row]:
        """Key -> run id and body of its newest observation of a kind; with ``key`` of that one alone."""
        clause, values = ("", (kind,)) if key is None else (" AND key = ?", (kind, key))
        query = f"SELECT MAX(id) FROM observations WHERE kind = ?{clause} GROUP BY key"
        found = self._read(f"SELECT CAST(key AS TEXT), {ROW} FROM observations WHERE id IN ({query})", values)
        return {key: (run_id, body) for key, run_id, body in found}

    def keys(self, kind: str) -> list[str]:
        """The keys of a kind, in the order of the alphabet."""
        query = "SELECT DISTINCT CAST(key AS TEXT) FROM observations WHERE kind = ? ORDER BY key"
        return [key for (key,) in self._read(query, (kind,))]

    def summarised(self, kind: str, version: str, keys: Iterable[str] | None = None) -> list[Summarised]:
        """The newest observation of every key of a kind, or of some keys, with its summary of this version."""
        among = "" if keys is None else " AND key IN (SELECT value FROM json_each(?))"
        values = (kind,) if keys is None else (kind, json.dumps(list(keys)))
        newest = f"SELECT key, MAX(id) AS id FROM observations WHERE kind = ?{among} GROUP BY key"
        query = (
            f"SELECT newest.id, CAST(newest.key AS TEXT), numbers, words FROM ({newest}) AS newest"
            " LEFT JOIN summaries ON summaries.observation = newest.id AND summaries.version = ?"
        )
        return self._read(query, (*values, version))

    def row(self, number: int) -> Row:
        """Run id and body of the observation with this number."""
        (found,) = self._read(f"SELECT {ROW} FROM observations WHERE id = ?", (number,))
        return found

    def last(self) -> int:
        """The number of the newest observation, 0 where there is none: it changes whenever the ledger does."""
        ((number,),) = self._read("SELECT MAX(id) FROM observations") or [(None,)]
        return number or 0

    # ---- the file ------------------------------------------------------------------------------------------------

    def _read(self, query: str, values: tuple = ()) -> list[tuple]:
        return self._with(lambda ledger: ledger.execute(query, values).fetchall()) if self.path.exists() else []

    def _with(self, work: Callable[[sqlite3.Connection], T], writes: bool = False) -> T:
        """What ``work`` returns; where it finds a damaged file, it works on the repaired one.

        On a read-only disk it reads a copy; work that ``writes`` is refused there.
        """
        writable = os.access(self.folder, os.W_OK)
        try:
            before = self.path.stat().st_ino if self.path.exists() else 0
            with self._open() if writable or writes else self._copied() as ledger:
                return work(ledger)
        except DamagedError:
            if not writable:
                raise
            repair(self.path, before)
        with self._open() as ledger:
            return work(ledger)

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
                create_tables(connection)
                with connection:
                    yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise (DamagedError if is_damage(error) else WorkbenchError)(
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
