"""A damaged ledger: it is kept aside under another name, and every row that can be read goes into a new one.

SQLite keeps a table in pages of 4 KiB. A page with wrong bytes loses the rows in it, and in the pages below it. So
rows are read by ranges of their numbers, and a range that cannot be read is halved until the rest of it is read.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import time
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path

from .errors import WorkbenchError
from .files import disk_errors, held_folder

#: The tables, in the order in which every version has made them. The order decides where each begins in the file.
TABLES = (
    "CREATE TABLE IF NOT EXISTS observations (id INTEGER PRIMARY KEY, run_id TEXT NOT NULL,"
    " taken REAL NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS by_key ON observations (kind, key)",
    "CREATE TABLE IF NOT EXISTS summaries (observation INTEGER PRIMARY KEY, version TEXT NOT NULL,"
    " numbers BLOB NOT NULL, words TEXT NOT NULL)",
)
#: Rows that are read at a time. A damaged page can end a range before its end.
AT_A_TIME = 256
#: A row takes this many bytes at least, which bounds the numbers of rows in a file.
SMALLEST_ROW = 32
#: What SQLite says of a damaged file (SQLITE_CORRUPT and SQLITE_NOTADB, https://www.sqlite.org/rescode.html).
DAMAGE = ("malformed", "not a database", "file is encrypted")


class DamagedError(WorkbenchError):
    """A ledger's file is damaged."""


class DamagedLedgerWarning(UserWarning):
    """A ledger was damaged; the warning names the file that was kept, and how many observations were saved."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error of SQLite says that the file is damaged, rather than locked, full or read-only."""
    return any(words in str(error) for words in DAMAGE)


def create_tables(connection: sqlite3.Connection) -> None:
    """Make the tables that are missing."""
    for statement in TABLES:
        connection.execute(statement)


def repair(path: Path, inode: int) -> None:
    """Rename a damaged ledger, and write what can be read of it into a new one at its place.

    Args:
        path: the ledger.
        inode: of the file that was found damaged. Where another file lies there now, another process repaired it.

    Warns:
        DamagedLedgerWarning: always, unless another process repaired it.

    Raises:
        WorkbenchError: the disk is full.
    """
    with _alone(path):
        if not path.exists() or path.stat().st_ino != inode:
            return
        kept = path.with_name(
            f"{path.stem}-damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{inode}.sqlite3"
        )
        failed = f"The damaged ledger {path} cannot be repaired"
        with disk_errors(failed), held_folder(path.parent, ".repair-") as folder:
            mended = folder / path.name
            saved = _save(path, mended)
            for end in ("-wal", "-shm", ""):  # the ledger last: its journal must never be taken for the new one's
                with contextlib.suppress(FileNotFoundError):
                    os.rename(f"{path}{end}", f"{kept}{end}")
            os.rename(mended, path)
    warnings.warn(
        f"the ledger {path} was damaged; it is kept as {kept.name}, and {saved:,} observations of it were saved."
        " What is missing is measured again by the next run",
        DamagedLedgerWarning,
        stacklevel=4,
    )


@contextlib.contextmanager
def _alone(path: Path) -> Generator[None]:
    """Keep other processes from repairing the same ledger."""
    import fcntl  # here, because Windows has none

    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _save(damaged: Path, mended: Path) -> int:
    """Copy every row that can be read; returns their number."""
    new = sqlite3.connect(mended, isolation_level=None)
    try:
        create_tables(new)
        new.execute("BEGIN")
        rows = 0
        for source in _readable(damaged, mended.parent):
            rows = _copy(source, new, damaged.stat().st_size // SMALLEST_ROW)
            if rows:
                break
        new.execute("COMMIT")
        return rows
    except sqlite3.Error as error:
        remedy = "free some space, or move the damaged file away and start a new one"
        raise WorkbenchError(f"The ledger {damaged} is damaged", why=str(error), remedy=remedy) from error
    finally:
        new.close()


def _readable(damaged: Path, folder: Path) -> Iterator[Path]:
    """Copies of the damaged file to read from: as it is, and with the first page of an undamaged ledger.

    The first page says where the tables begin, which is the same in all ledgers.
    """
    copy, other, fresh = (folder / name for name in ("copy.sqlite3", "first-page.sqlite3", "fresh.sqlite3"))
    for end in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(f"{damaged}{end}", f"{copy}{end}")
    yield copy
    with contextlib.closing(sqlite3.connect(fresh)) as empty:
        create_tables(empty)
    shutil.copyfile(damaged, other)
    with open(other, "r+b") as file:
        file.write(_first_page(fresh.read_bytes()))
    yield other


def _first_page(database: bytes) -> bytes:
    """The first page of a database, for a file of another length.

    Bytes 16 and 17 of the header are the size of a page. The number of pages at byte 28 holds only where the count
    at byte 92 is the one at byte 24 (https://www.sqlite.org/fileformat.html, section 1.3).
    """
    page = bytearray(database[: int.from_bytes(database[16:18], "big")])
    page[92:96] = bytes(byte ^ 0xFF for byte in page[24:28])
    return bytes(page)


def _copy(source: Path, new: sqlite3.Connection, numbers: int) -> int:
    """Copy the rows of a file as far as they can be read; ``numbers`` is above the number of each of them."""
    saved = 0
    with contextlib.closing(sqlite3.connect(source)) as old:
        old.text_factory = lambda content: content.decode(errors="replace")
        for begin in range(0, numbers, AT_A_TIME):
            for row in _rows(old, begin, begin + AT_A_TIME):
                if _is_observation(row):
                    new.execute("INSERT INTO observations VALUES (?, ?, ?, ?, ?, ?)", row)
                    saved += 1
    return saved


def _rows(old: sqlite3.Connection, low: int, high: int) -> Iterator[tuple]:
    """The rows with numbers from ``low`` to below ``high``; a range with a damaged page is read in halves.

    A ledger loses no row, so some rows are missing between others only where a page is damaged.
    """
    try:
        found = old.execute(
            "SELECT id, run_id, taken, kind, key, body FROM observations NOT INDEXED WHERE id >= ? AND id < ?",
            (low, high),
        ).fetchall()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        found = None
    if high - low > 1 and (found is None or 0 < len(found) < high - low):
        middle = (low + high) // 2
        yield from _rows(old, low, middle)
        yield from _rows(old, middle, high)
    else:
        yield from {row[0]: row for row in found or () if low <= row[0] < high}.values()


def _is_observation(row: tuple) -> bool:
    """Whether a row holds text and JSON; what a damaged page holds can look like a row."""
    _, run_id, taken, kind, key, body = row
    try:
        json.loads(body)
    except (TypeError, ValueError, RecursionError):
        return False
    return all(isinstance(text, str) and "\ufffd" not in text for text in (run_id, kind, key)) and isinstance(
        taken, float
    )
