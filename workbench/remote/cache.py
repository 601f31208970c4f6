"""Files that a host keeps between jobs, by the SHA-256 of their bytes: images and weights travel once."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import zipfile
from pathlib import Path, PurePosixPath

from ..digests import file_digest
from ..errors import WorkbenchError
from ..files import disk_errors, new_file

#: Bytes that a host keeps. Above this limit the least recently used files are deleted.
LIMIT_BYTES = 20 << 30


def default_folder() -> Path:
    """The folder of a host's files when its entry in ``hosts.toml`` names no other."""
    return Path.home() / ".cache" / "vit-workbench" / "blobs"


class FileCache:
    """A folder of files named by their SHA-256, shared by all jobs of a user on a host."""

    def __init__(self, folder: Path):
        self._folder = folder
        with disk_errors(f"The host's cache {folder} cannot be used"):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def timings(self) -> Path:
        """A folder beside the files for the timings of kernels on this machine."""
        return self._folder / "timings"

    def _path(self, digest: str) -> Path:
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise WorkbenchError(
                f"{digest!r} is no digest",
                why="files on a host are named by their SHA-256",
                remedy="the other end is not the workbench; do not use it",
            )
        return self._folder / digest

    def holds(self, digest: str) -> bool:
        """Whether the file is here; it then counts as used now."""
        path = self._path(digest)
        with contextlib.suppress(OSError):
            os.utime(path)
        return path.is_file()

    def take(self, archive: zipfile.ZipFile, name: str) -> None:
        """Copy a member of an archive into the cache; its name ends in the digest of its bytes.

        Raises:
            WorkbenchError: it came compressed or damaged, or the disk is full.
        """
        digest = PurePosixPath(name).name
        kept = self._path(digest)
        if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
            raise WorkbenchError(
                f"The file {digest[:12]}… came compressed",
                why="a job's files travel as they are, so that a small archive cannot fill the host's disk",
                remedy="the other end is not the workbench; do not run its jobs",
            )
        with new_file(kept) as draft:
            with archive.open(name) as source, open(draft, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            if file_digest(draft) != digest:
                raise WorkbenchError(
                    f"The file {digest[:12]}… arrived damaged",
                    why="its SHA-256 is not the one that it was sent under",
                    remedy="try again; if it stays so, look at the connection and at the host's disk",
                )

    def copy(self, digest: str, target: Path) -> None:
        """Copy a file to where a job needs it; checked, because disks and other programs change files."""
        kept = self._path(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(kept, target)
        if file_digest(target) != digest:
            kept.unlink(missing_ok=True)
            raise WorkbenchError(
                f"The host's copy of {target.name} was changed",
                why=f"the SHA-256 of {kept} is no longer its name",
                remedy="run the job again: the file was deleted and will be sent again",
            )

    def prune(self, limit: int = LIMIT_BYTES) -> None:
        """Delete the least recently used files until the others fit; files of the last hour stay."""
        files = sorted((p for p in self._folder.iterdir() if p.is_file()), key=lambda p: p.stat().st_mtime)
        total = sum(p.stat().st_size for p in files)
        for path in files:
            if total <= limit or path.stat().st_mtime > time.time() - 3600:
                return
            total -= path.stat().st_size
            path.unlink(missing_ok=True)
