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
import secrets
import shutil
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, TypeVar

from . import records
from .code_version import code_digest, tool_versions
from .digests import digest, file_digest
from .errors import WorkbenchError, path_of
from .files import disk_errors
from .ledger import Ledger, Observation, Summary, new_run_id

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
            draft = folder.parent / f".draft-{secrets.token_hex(4)}"
            draft.mkdir()
            try:
                record = make(draft, key)
                files = sorted(path for path in draft.rglob("*") if path.is_file())
                sums = {path.relative_to(draft).as_posix(): file_digest(path) for path in files}
                document = {"record": _encoded(record, draft), "sha256": sums}
                document["digest"] = digest(document)  # the record's own bytes are checked too
                (draft / RECORD).write_text(json.dumps(document, indent=1))
                _publish(draft, folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    # ---- observations -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def new_folder(self, kind: str, run_id: str) -> Generator[Path]:
        """An empty folder for the files of one observation; it is removed when the body raises.

        Raises:
            WorkbenchError: the disk is full or read-only.
        """
        folder = self.path / kind / run_id
        with disk_errors(f"The folder {folder} cannot be written"):
            folder.mkdir(parents=True)
            try:
                yield folder
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise

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

        Warns:
            RenamedFieldWarning: an earlier version wrote a field under another name.

        Raises:
            WorkbenchError: the ledger is damaged.
        """
        bodies = Ledger(self.path).bodies(kind, key)
        return [self.decoded(cls, body) for body in bodies]

    def newest(self, kind: str, cls: type[T], key: str) -> T | None:
        """The last observation of a kind and key, or None."""
        body = Ledger(self.path).newest(kind, key).get(key)
        return None if body is None else self.decoded(cls, body)

    def decoded(self, cls: type[T], body: str) -> T:
        """The record in the body of an observation of this workspace."""
        return _decoded(cls, json.loads(body), self.path)


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
    if (Path(path).parent / RECORD).is_file():
        _verified(Path(path).parent)


def _verified(folder: Path) -> dict:
    """The document in an artefact's record file, after a check of the bytes of every file."""
    try:
        document = json.loads((folder / RECORD).read_text())
        own = document.pop("digest")
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise _changed(folder / RECORD, f"it cannot be read: {error!r}") from error
    if digest(document) != own:
        raise _changed(folder / RECORD, "its contents do not have the digest that was written with them")
    for name, expected in document["sha256"].items():
        file = folder / name
        found = file_digest(file) if file.exists() else "no file"
        if found != expected:
            raise _changed(file, f"its SHA-256 was {expected}, now {found}")
    return document


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
