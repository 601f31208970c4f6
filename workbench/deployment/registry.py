"""A registry: a folder of bundles, one of which is current, with the history of how that came about.

Every promotion and rollback is one entry in a ledger, and which bundle is current is computed from the entries. An
entry is written whole or not at all, so a process that is killed leaves the bundle before or the bundle after.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..errors import WorkbenchError, path_of, refuse_unless
from ..files import disk_errors
from ..ledger import LEDGER, Ledger, new_run_id
from ..workspace import records_in
from .manifest import Manifest, bundle_digest
from .verify import read_bundle

PROMOTE, ROLLBACK, REJECT = "promote", "rollback", "reject"
_KIND = "deployment"
_VERSION = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Event:
    """One entry of the history: what was done, to which version, when (UTC) by its run id, and why if known."""

    action: str
    version: str
    run_id: str
    reason: str = ""


class Registry:
    """The versions of a model that are, were or will be served. A version is named by its bundle's digest."""

    def __init__(self, path):
        self.path = path_of("A registry", path).expanduser().absolute()

    def __repr__(self) -> str:
        return f"Registry({str(self.path)!r})"

    @staticmethod
    def is_at(path) -> bool:
        """Whether a folder is a registry."""
        return (Path(path) / LEDGER).is_file()

    def add(self, bundle, trust: str | os.PathLike | None = None) -> str:
        """Copy a bundle into the registry without making it current; a bundle that is there already is kept.

        Args:
            bundle: the folder.
            trust: the digest, or the file of the public key, that the sender gave by another way.

        Returns:
            The version.

        Raises:
            WorkbenchError: the bundle is damaged or not the trusted one, or the disk is full.
        """
        bundle = path_of("A bundle", bundle).expanduser().absolute()
        read_bundle(bundle, trust)
        version = bundle_digest(bundle)
        target = self._folder(version)
        draft = target.with_name(f".draft-{secrets.token_hex(4)}")
        with disk_errors(f"The version {version[:12]} cannot be written"):
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                self.manifest(version)
                return version
            try:
                shutil.copytree(bundle, draft, symlinks=True)
                read_bundle(draft, version)  # what is copied is what was checked
                _publish(draft, target)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return version

    def promote(self, version: str) -> Path:
        """Make a version current.

        Args:
            version: what ``add`` returned, or the beginning of it.

        Returns:
            Its folder.

        Raises:
            WorkbenchError: there is no such version, or a file of it was changed.
        """
        version = self._full_name(version)
        self.manifest(version)
        self._append(PROMOTE, version)
        return self._folder(version)

    def rollback(self) -> Path:
        """Make the version current that was current before.

        Returns:
            Its folder.

        Raises:
            WorkbenchError: there is none, or a file of it was changed.
        """
        stack = _stack(self.history())
        refuse_unless(
            len(stack) > 1,
            "There is no version to go back to",
            why=f"{len(stack)} version was promoted" if len(stack) == 1 else "no version was promoted",
            remedy="promote another version; workbench deploy list shows all",
        )
        self.manifest(stack[-2])
        self._append(ROLLBACK, stack[-2])
        return self._folder(stack[-2])

    def reject(self, version: str, reason: str) -> None:
        """Note that a version was tried on a share of the requests and taken back; what is current stays.

        Args:
            version: what ``add`` returned, or the beginning of it.
            reason: which limit it exceeded.

        Raises:
            WorkbenchError: there is no such version.
        """
        self._append(REJECT, self._full_name(version), reason)

    @property
    def current(self) -> str | None:
        """The current version, or None before the first was promoted."""
        stack = _stack(self.history())
        return stack[-1] if stack else None

    @property
    def current_folder(self) -> Path:
        """The bundle of the current version.

        Raises:
            WorkbenchError: no version was promoted.
        """
        current = self.current
        if current is None:
            remedy = "promote one: workbench deploy promote REGISTRY BUNDLE"
            raise WorkbenchError(f"{self.path} has no current version", why="none was promoted", remedy=remedy)
        return self._folder(current)

    def versions(self) -> list[str]:
        """All versions that were added, in the order of their names."""
        folder = self.path / "versions"
        return (
            sorted(path.name for path in folder.iterdir() if _VERSION.fullmatch(path.name))
            if folder.is_dir()
            else []
        )

    def history(self) -> list[Event]:
        """Every promotion, rollback and rejection, oldest first; a row that is none is set aside with a warning."""
        return records_in(Ledger(self.path), _KIND, Event)

    def folder_of(self, version: str) -> Path:
        """The folder of a version that was added, or of the beginning of its name.

        Raises:
            WorkbenchError: there is no such version.
        """
        return self._folder(self._full_name(version))

    def _folder(self, version: str) -> Path:
        return self.path / "versions" / version

    def manifest(self, version: str) -> Manifest:
        """The manifest of a version, after a check of its files.

        Raises:
            WorkbenchError: there is no such version, or a file of it was changed.
        """
        version = self._full_name(version)
        return read_bundle(self._folder(version), version)

    def _full_name(self, version: str) -> str:
        known = self.versions()
        found = [each for each in known if version and each.startswith(version)]
        refuse_unless(
            len(found) == 1,
            f"The registry has no version {version!r}",
            why=f"{len(found)} of its {len(known)} versions begin so: {', '.join(each[:12] for each in known)}",
            remedy="give enough letters of one of them, or add the bundle",
        )
        return found[0]

    def _append(self, action: str, version: str, reason: str = "") -> None:
        event = Event(action, version, new_run_id(), reason)
        Ledger(self.path).append(event.run_id, _KIND, version, json.dumps(vars(event)))


def _stack(history: list[Event]) -> list[str]:
    """The versions that were current one after the other, the current one last; a rollback takes one away."""
    stack: list[str] = []
    for event in history:
        if event.action == PROMOTE:
            stack.append(event.version)
        elif event.action == ROLLBACK and len(stack) > 1:
            stack.pop()
    return stack


def _publish(draft: Path, target: Path) -> None:
    """Rename a finished copy; when another process has just added the same bundle, that one is kept."""
    try:
        os.rename(draft, target)
    except OSError:
        if not target.is_dir():
            raise
