"""The folder of a project, with two stores: artefacts and observations.

*Artefacts* (graphs, ranges, variants) are deterministic. The digest that finds an artefact covers its inputs, the
source of the code that makes it and the versions of the tools that this code uses. So nothing is made twice, and an
artefact of older code is never used. *Observations* (builds, measurements) differ each time. They are appended to a
ledger and never overwritten.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, TypeVar

from . import records
from .code_version import code_digest, tool_versions
from .digests import digest, file_digest
from .errors import WorkbenchError, path_of
from .files import abandoned, disk_errors, held_file, held_folder
from .ledger import Ledger, Observation, Row, Summary, new_run_id

T = TypeVar("T")

RECORD = "record.json"
#: The version of the layout of artefacts. It is part of every digest, so artefacts of another layout are not found.
FORMAT = 2
#: An unfinished artefact of a killed process is removed after this many seconds.
STALE_S = 24 * 3600
#: Kind of observation -> what makes the summary that is kept beside each of them. A room adds its own kind here.
SUMMARIES: dict[str, Callable[[Any], Summary]] = {}


class Workspace:
    """The folder of one project. Artefacts in it are found by digest, observations by kind and key."""

    def __init__(self, path):
        self.path = path_of("A workspace", path).expanduser().absolute()
        with disk_errors(f"The workspace {self.path} cannot be used"):
            self.path.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of(cls, workspace) -> Workspace:
        """A workspace as it is, or the workspace at a path."""
        return workspace if isinstance(workspace, cls) else cls(workspace)

    def __repr__(self) -> str:
        return f"Workspace({str(self.path)!r})"

    # ---- artefacts -------------------------------------------------------------------------------------------

    def artefact(
        self,
        kind: str,
        cls: type[T],
        inputs,
        make: Callable[[Path, str], T],
        *,
        tools: Iterable[str] = (),
    ) -> T:
        """Find an artefact by the digest of everything that shapes it, or make it.

        Args:
            kind: the folder below ``artefacts/``, such as ``graph``.
            cls: the record type that describes the artefact.
            inputs: anything that ``digests.digest`` takes.
            make: a function that is called with an empty folder and the digest. It writes its files into the folder
                and returns the record; the record's paths lie in this folder or in another artefact. The source of
                its module and of all that it imports is part of the digest, see ``code_version.import_closure``.
            tools: names of distributions; their versions are part of the digest.

        Returns:
            The record, its paths absolute.

        Raises:
            WorkbenchError: a stored artefact's bytes were changed, or the disk is full or read-only.
        """
        key = digest(FORMAT, kind, inputs, code_digest(make.__module__), tool_versions(tuple(tools)))
        folder = self.path / "artefacts" / kind / key
        if not (folder / RECORD).exists():
            self._make(folder, key, make)
        return _decoded(cls, _verified(folder)["record"], folder)

    def _make(self, folder: Path, key: str, make: Callable[[Path, str], object]) -> None:
        with disk_errors(f"The artefact {folder.parent.name}/{key} cannot be written"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale_drafts(folder.parent)
            with held_folder(folder.parent, ".draft-") as draft:
                record = make(draft, key)
                files = sorted(path for path in draft.rglob("*") if path.is_file())
                sums = {path.relative_to(draft).as_posix(): file_digest(path) for path in files}
                document = {"record": _encoded(record, draft), "sha256": sums}
                document["digest"] = digest(document)  # the record's own bytes are checked too
                (draft / RECORD).write_text(json.dumps(document, indent=1))
                _publish(draft, folder)

    # ---- observations -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def new_folder(self, kind: str, run_id: str) -> Generator[Path]:
        """An empty folder for the files of one observation; it is removed when the body raises.

        Raises:
            WorkbenchError: the disk is full or read-only.
        """
        folder, marker = self.path / kind / run_id, self.path / kind / f".unfinished-{run_id}"
        with disk_errors(f"The folder {folder} cannot be written"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._sweep_unfinished(folder.parent)
            with held_file(marker):
                folder.mkdir()
                try:
                    yield folder
                except BaseException:
                    shutil.rmtree(folder, ignore_errors=True)
                    raise

    def _sweep_unfinished(self, parent: Path) -> None:
        """Remove the folders of killed processes, unless the ledger names them; then they were finished."""
        for marker in abandoned(parent, ".unfinished-*"):
            run_id = marker.name.removeprefix(".unfinished-")
            if not Ledger(self.path).knows(run_id):
                shutil.rmtree(parent / run_id, ignore_errors=True)
            marker.unlink(missing_ok=True)

    def append(self, kind: str, key: str, record, run_id: str | None = None) -> str:
        """Append an observation to the ledger.

        Args:
            kind: what sort of observation it is, such as ``measurement``.
            key: what was observed, usually a digest.
            record: the observation, a dataclass.
            run_id: its name; None makes a new one.

        Returns:
            The run id.

        Raises:
            WorkbenchError: the disk is full or read-only, or the ledger is damaged.
        """
        run_id = run_id or new_run_id()
        self.append_all(kind, [(key, record)], run_id)
        return run_id

    def append_all(self, kind: str, records: Iterable[tuple[str, Any]], run_id: str | None = None) -> None:
        """Append observations of one kind, each with its key: all of them or, where that fails, none.

        Raises:
            WorkbenchError: as for ``append``.
        """
        run_id, summary = run_id or new_run_id(), SUMMARIES.get(kind)
        Ledger(self.path).append_all(
            Observation(
                run_id, kind, key, json.dumps(_encoded(record, self.path)), summary(record) if summary else None
            )
            for key, record in records
        )

    def observations(self, kind: str, cls: type[T], key: str | None = None) -> list[T]:
        """All observations of a kind (and key), oldest first, as records of type ``cls``.

        A row that is no such record is set aside: it stays in the ledger, and a warning names it.

        Warns:
            RenamedFieldWarning: an earlier version wrote a field under another name.
            UnknownFieldWarning: a newer version wrote a field that this one does not know.
            SetAsideWarning: a row cannot be read.

        Raises:
            WorkbenchError: the ledger is damaged.
        """
        return records_in(Ledger(self.path), kind, cls, key)

    def newest(self, kind: str, cls: type[T], key: str) -> T | None:
        """The last observation of a kind and key that can be read, or None; see ``observations``."""
        return self.newest_by_key(kind, cls, key).get(key)

    def newest_by_key(self, kind: str, cls: type[T], key: str | None = None) -> dict[str, T]:
        """Key -> its last observation of a kind that can be read; with ``key`` of that one alone.

        Warns:
            SetAsideWarning: a later row holds no such record.
        """
        ledger, found = Ledger(self.path), {}
        for each, row in ledger.newest(kind, key).items():
            record = record_in(ledger, kind, cls, row)
            if record is None:
                earlier = reversed(ledger.rows(kind, each)[:-1])
                read = (record_in(ledger, kind, cls, each_row) for each_row in earlier)
                record = next((one for one in read if one is not None), None)
            if record is not None:
                found[each] = record
        return found


def records_in(ledger: Ledger, kind: str, cls: type[T], key: str | None = None) -> list[T]:
    """The records of a kind (and key) in a ledger, oldest first; paths in them are relative to its folder.

    Warns:
        SetAsideWarning: a row holds no such record; the others are read.
    """
    found = (record_in(ledger, kind, cls, row) for row in ledger.rows(kind, key))
    return [record for record in found if record is not None]


def record_in(ledger: Ledger, kind: str, cls: type[T], row: Row) -> T | None:
    """The record in a row of a ledger, or None with a ``SetAsideWarning`` where the row holds no such record."""
    return read_row(ledger, kind, row, lambda body: _decoded(cls, json.loads(body), ledger.folder))


def read_row(ledger: Ledger, kind: str, row: Row, read: Callable[[str], T]) -> T | None:
    """What ``read`` makes of the body of a row.

    Warns:
        SetAsideWarning: ``read`` refuses the body, or it is no JSON; then the result is None.
    """
    run_id, body = row
    try:
        return read(body)
    except WorkbenchError as error:
        reason = f"{error.what}: {error.why}"
    except (ValueError, RecursionError) as error:
        reason = f"it is no JSON: {error}"
    message = f"row {run_id[:80]!r} ({kind}) of {ledger.path} is set aside: {reason}. A newer version of"
    warnings.warn(f"{message} the workbench may have written it", SetAsideWarning, stacklevel=4)
    return None


class SetAsideWarning(UserWarning):
    """A row of the ledger holds no record that this version can read; the other rows are read."""


def _encoded(record, folder: Path):
    """A record as JSON values, its paths relative to a folder, so that the workspace can be moved."""
    return records.encode(record, functools.partial(os.path.relpath, start=folder))


def _decoded(cls: type[T], data, folder: Path) -> T:
    """The record that ``_encoded`` wrote, its paths absolute."""
    return records.decode(cls, data, lambda path: Path(os.path.normpath(folder / path)))


def check_artefact(path: Path) -> None:
    """Check the bytes of the artefact that a file belongs to; a file outside artefacts is not checked.

    Raises:
        WorkbenchError: a file of the artefact is missing or was changed since it was written.
    """
    if is_artefact(path):
        _verified(Path(path).parent)


def is_artefact(path: Path) -> bool:
    """Whether a file belongs to an artefact of a workspace, whose bytes have a digest."""
    return (Path(path).parent / RECORD).is_file()


def _verified(folder: Path) -> dict:
    """The document in an artefact's record file, after a check of the bytes of every file."""
    try:
        document = json.loads((folder / RECORD).read_text())
        own = document.pop("digest")
        found = digest(document)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise _changed(folder / RECORD, f"it cannot be read: {error!r}"[:400]) from error
    if found != own or not {"record", "sha256"} <= set(document) or not _are_sums(document["sha256"]):
        raise _changed(folder / RECORD, "its contents do not have the digest that was written with them")
    for name, expected in document["sha256"].items():
        file = folder / name
        found = file_digest(file) if file.exists() else "no file"
        if found != expected:
            raise _changed(file, f"its SHA-256 was {expected}, now {found}")
    return document


def _are_sums(value) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _changed(file: Path, why: str) -> WorkbenchError:
    return WorkbenchError(
        f"The stored artefact {file} is not what was written",
        why=why,
        remedy=f"delete the folder {file.parent} and run again; it is made again from its inputs",
    )


def _remove_stale_drafts(folder: Path) -> None:
    for draft in folder.glob(".draft-*"):
        with contextlib.suppress(OSError):  # another process may be removing it
            if time.time() - draft.stat().st_mtime > STALE_S:
                shutil.rmtree(draft, ignore_errors=True)


def _publish(draft: Path, folder: Path) -> None:
    """Rename a finished folder. When another process has just made the same artefact, that one is kept."""
    try:
        os.rename(draft, folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
