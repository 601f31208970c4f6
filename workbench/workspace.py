"""A folder with two stores: artefacts that a digest finds again, and a ledger of observations that only grows.

*Artefacts* (graphs, ranges, variants) are deterministic. Their digest covers all inputs, the source of the code
that made them and the versions of the tools it used, so a second run makes nothing twice and new code never meets
a stale file. *Observations* (builds, measurements) differ every time: they are appended and never overwritten.
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
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from . import records
from .code_version import code_digest, tool_versions
from .digests import digest, file_digest
from .errors import WorkbenchError, path_of
from .files import disk_errors
from .ledger import Ledger, new_run_id

RECORD = "record.json"
#: Changes when artefacts are written in another way, so that none of the old ones is read as a new one.
FORMAT = 2
#: What a killed process left in the making is removed after this many seconds.
STALE_S = 24 * 3600


class Workspace:
    """The folder of one project. Everything in it is found again by digest or by run id."""

    def __init__(self, path):
        self.path = path_of("A workspace", path).expanduser().absolute()
        with disk_errors(f"The workspace {self.path} cannot be used"):
            self.path.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of(cls, place) -> Workspace:
        """The workspace itself, or the one in a folder given by its path."""
        return place if isinstance(place, cls) else cls(place)

    def __repr__(self) -> str:
        return f"Workspace({str(self.path)!r})"

    # ---- artefacts -------------------------------------------------------------------------------------------

    def artefact(
        self,
        kind: str,
        cls,
        inputs,
        make: Callable[[Path, str], object],
        *,
        tools: Iterable[str] = (),
    ):
        """Find an artefact by the digest of everything that makes it, or make it.

        Args:
            kind: the folder below ``artefacts/``, such as ``graph``.
            cls: the record type that describes the artefact.
            inputs: anything ``digest`` takes.
            make: called with an empty folder and the digest; writes its files there and returns the record, whose
                paths may lie in that folder or in another artefact's. Its module and the modules
                that this imports are part of the digest.
            tools: names of the distributions whose version shapes the result.

        Returns:
            The record, its paths absolute.

        Raises:
            WorkbenchError: a stored artefact's bytes were changed, or the disk is full or read-only.
        """
        code, tools = code_digest(make.__module__), tool_versions(tuple(tools))
        key = digest(FORMAT, kind, inputs, code, tools)
        folder = self.path / "artefacts" / kind / key
        if not (folder / RECORD).exists():
            self._make(folder, key, make)
        return self._load(folder, cls)

    def _make(self, folder: Path, key: str, make) -> None:
        with disk_errors(f"The artefact {folder.parent.name}/{key} cannot be written"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale_drafts(folder.parent)
            draft = folder.parent / f".draft-{secrets.token_hex(4)}"
            draft.mkdir()
            try:
                record = make(draft, key)
                files = sorted(path for path in draft.rglob("*") if path.is_file())
                sums = {path.relative_to(draft).as_posix(): file_digest(path) for path in files}
                self._write_record(draft, record, sums)
                _publish(draft, folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    @staticmethod
    def _write_record(folder: Path, record, sums: Mapping[str, str]) -> None:
        relative = functools.partial(os.path.relpath, start=folder)
        document = {"record": records.encode(record, relative), "sha256": dict(sums)}
        document["digest"] = digest(document)  # of the record itself, which no other file vouches for
        (folder / RECORD).write_text(json.dumps(document, indent=1))

    @staticmethod
    def _load(folder: Path, cls):
        return records.decode(cls, _verified(folder)["record"], lambda p: Path(os.path.normpath(folder / p)))

    # ---- builds: folders of their own, described in the ledger --------------------------------------------------

    @contextlib.contextmanager
    def new_folder(self, kind: str, run_id: str):
        """An empty folder for one observation's files; it is removed again when the body raises."""
        folder = self.path / kind / run_id
        with disk_errors(f"The folder {folder} cannot be written"):
            folder.mkdir(parents=True)
            try:
                yield folder
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise

    # ---- the ledger --------------------------------------------------------------------------------------------

    def append(self, kind: str, key: str, record, run_id: str | None = None) -> str:
        """Append an observation under a key that says what was observed; nothing is ever overwritten.

        Returns:
            The run id.
        """
        run_id = run_id or new_run_id()
        body = json.dumps(records.encode(record, functools.partial(os.path.relpath, start=self.path)))
        Ledger(self.path).append(run_id, kind, key, body)
        return run_id

    def observations(self, kind: str, cls, key: str | None = None) -> list:
        """All observations of a kind (and key), oldest first, as records."""
        bodies = Ledger(self.path).bodies(kind, key)
        return [records.decode(cls, json.loads(body), self._absolute) for body in bodies]

    def _absolute(self, path: str) -> Path:
        return Path(os.path.normpath(self.path / path))


def check_artefact(path: Path) -> None:
    """Refuse a file whose artefact was changed since it was written; a file that lies elsewhere is none.

    Raises:
        WorkbenchError: a file beside it, or the file itself, has other bytes or is gone.
    """
    if (Path(path).parent / RECORD).is_file():
        _verified(Path(path).parent)


def _verified(folder: Path) -> dict:
    """What an artefact's record says, once it and every file have the bytes that were written."""
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
        remedy=f"delete the folder {file.parent} and run again; it is made anew from its inputs",
    )


def _remove_stale_drafts(folder: Path) -> None:
    for draft in folder.glob(".draft-*"):
        with contextlib.suppress(OSError):  # another process may remove it at the same time
            if time.time() - draft.stat().st_mtime > STALE_S:
                shutil.rmtree(draft, ignore_errors=True)


def _publish(draft: Path, folder: Path) -> None:
    """Give a finished folder its name; another process may have made the same one meanwhile, which is as good."""
    try:
        os.rename(draft, folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
