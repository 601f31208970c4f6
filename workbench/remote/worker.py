"""Does one job in a process of its own: a variant in, an engine and its measurements out.

What travels (``studies.hosts`` is the other end):

- standard input: a zip of the light half of this package, ``job.json``, and ``blobs/<sha-256>``, the files that the
  host does not hold yet. Files are kept there by digest, so that images and weights travel once.
- standard error: JSON lines: ``{"stage", "done", "total"}`` while it works; ``{"error": {"what", "why",
  "remedy"}}`` when it cannot; ``{"missing": [digests]}`` when files must be sent first; ``{"sent": {"sha256",
  "bytes"}}`` last.
  Any other line was printed by a library.
- standard output: a tar of ``report.json`` and the engine's folder.

The end of standard input means that nobody waits any more: the worker then ends at once.
``python -m workbench.remote.worker < job.zip > result.tar`` does the same where the package is at hand.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import re
import shutil
import sys
import tarfile
import tempfile
import threading
import time
import traceback
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ..digests import file_digest
from ..errors import WorkbenchError
from ..files import disk_errors
from ..records import decode, encode
from ..workspace import Workspace
from .job import EvaluationSet, Job, run_job

#: Files that a host keeps; the ones that were not used for longest go first.
CACHE_BYTES = 20 << 30
#: Seconds between two reports of the same stage.
PAUSE_S = 0.05


def main(archive: str | None = None) -> int:
    """Serve the job in a zip file, or in the one on standard input; returns the exit status."""
    answer = _own_stdout()
    try:
        with disk_errors("The host's temporary folder is no use"), tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if archive is not None:
                _end_with_stdin(folder)
            with zipfile.ZipFile(archive or _spool(folder)) as job:
                return _serve(job, folder, answer)
    except WorkbenchError as error:
        say(error={"what": error.what, "why": error.why, "remedy": error.remedy})
    except Exception as error:
        traceback.print_exc()
        why = f"{type(error).__name__}: {error}"
        say(error={"what": "The worker failed", "why": why, "remedy": "its traceback is part of the host's output"})
    return 3


def _own_stdout():
    """Standard output for the answer alone; whatever libraries print goes to standard error instead."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answer


def _end_with_stdin(folder: Path) -> None:
    def wait():
        with contextlib.suppress(OSError):
            while os.read(0, 1 << 16):
                pass
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _spool(folder: Path) -> Path:
    path = folder / "job.zip"
    with open(path, "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return path


def say(**message) -> None:
    """One JSON line on standard error."""
    sys.stderr.write(json.dumps(message) + "\n")
    sys.stderr.flush()


def _serve(archive: zipfile.ZipFile, folder: Path, answer) -> int:
    request = json.loads(archive.read("job.json"))
    if "doctor" in request:
        from .doctor import rows

        return _send(answer, {"report.json": json.dumps(rows()).encode()}, {})
    blobs = Blobs(Path(request["cache"]) if request.get("cache") else default_cache())
    for name in archive.namelist():
        if name.startswith("blobs/"):
            blobs.take(archive, name)
    if missing := [key for key in request["files"].values() if not blobs.holds(key)]:
        say(missing=missing)
        return 0
    for name, key in request["files"].items():
        blobs.copy(key, folder / safe_name(name))
    blobs.prune(CACHE_BYTES)
    job = decode(Job, request["job"], lambda path: folder / safe_name(path))
    if job.backend == "tensorrt":  # the workspace is gone after the job, and the next build wants to know
        job = replace(job, options={"timings": str(blobs.timings), **job.options})
    evaluation = EvaluationSet.load(folder / "evaluation.npz") if "evaluation.npz" in request["files"] else None
    report = run_job(job, Workspace(folder / "workspace"), evaluation, _Reporter())
    home = report.engine.path.parent
    relative = functools.partial(os.path.relpath, start=home)
    files = {f"engine/{p.relative_to(home).as_posix()}": p for p in sorted(home.rglob("*")) if p.is_file()}
    return _send(answer, {"report.json": json.dumps(encode(report, relative)).encode()}, files)


def _send(answer, texts: Mapping[str, bytes], files: Mapping[str, Path]) -> int:
    out = _Summed(answer)
    with tarfile.open(fileobj=out, mode="w|") as tar:
        for name, content in texts.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, path in files.items():
            info = tarfile.TarInfo(name)
            info.size = path.stat().st_size
            with open(path, "rb") as file:
                tar.addfile(info, file)
    answer.close()
    say(sent={"sha256": out.sum.hexdigest(), "bytes": out.bytes})
    return 0


class _Summed:
    """A file to write to that knows the digest of what went through."""

    def __init__(self, file):
        self._file, self.sum, self.bytes = file, hashlib.sha256(), 0

    def write(self, block: bytes) -> int:
        self._file.write(block)
        self.sum.update(block)
        self.bytes += len(block)
        return len(block)


class _Reporter:
    """Progress as JSON lines, at most one per pause and stage."""

    def __init__(self):
        self._stage, self._time = "", 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self._stage or done == total or now > self._time + PAUSE_S:
            self._stage, self._time = stage, now
            say(stage=stage, done=done, total=total)


def safe_name(name: str) -> PurePosixPath:
    """A relative path without steps upwards, as a zip or tar may hold one.

    Raises:
        WorkbenchError: the name leads out of the folder that it is put into.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise WorkbenchError(
            f"An archive holds a file of the name {name!r}",
            why="it would be written outside its folder",
            remedy="the other end is not the workbench, or somebody changed what travelled; do not use its results",
        )
    return path


def default_cache() -> Path:
    """Where a host keeps files between jobs."""
    return Path.home() / ".cache" / "vit-workbench" / "blobs"


class Blobs:
    """Files kept by their SHA-256, shared by all jobs of a user on a host."""

    def __init__(self, folder: Path):
        self._folder = folder
        with disk_errors(f"The host's cache {folder} cannot be used"):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def timings(self) -> Path:
        """A folder beside the files for what builders learn about this machine."""
        return self._folder / "timings"

    def _path(self, key: str) -> Path:
        if not re.fullmatch("[0-9a-f]{64}", key):
            raise WorkbenchError(
                f"{key!r} is no digest",
                why="files on a host are named by their SHA-256",
                remedy="the other end is not the workbench; do not use it",
            )
        return self._folder / key

    def holds(self, key: str) -> bool:
        """Whether the file is here; asking marks it as used."""
        path = self._path(key)
        with contextlib.suppress(OSError):
            os.utime(path)
        return path.is_file()

    def take(self, archive: zipfile.ZipFile, name: str) -> None:
        """Keep a member of an archive whose name ends in the digest of its bytes."""
        key = PurePosixPath(name).name
        kept = self._path(key)
        draft = self._folder / f".draft-{os.getpid()}-{key[:16]}"
        if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
            raise WorkbenchError(
                f"The file {key[:12]}… came compressed",
                why="a job's files travel as they are, so that a small archive cannot fill the host's disk",
                remedy="the other end is not the workbench; do not run its jobs",
            )
        with disk_errors(f"The host's cache {self._folder} cannot be written"):
            try:
                with archive.open(name) as source, open(draft, "wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
                if file_digest(draft) != key:
                    raise WorkbenchError(
                        f"The file {key[:12]}… arrived damaged",
                        why="its SHA-256 is not the one that it was sent under",
                        remedy="try again; if it stays so, look at the connection and at the host's disk",
                    )
                os.replace(draft, kept)
            finally:
                draft.unlink(missing_ok=True)

    def copy(self, key: str, target: Path) -> None:
        """Put a copy where a job wants it; checked, because disks and other programs change files."""
        kept = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(kept, target)
        if file_digest(target) != key:
            kept.unlink(missing_ok=True)
            raise WorkbenchError(
                f"The host's copy of {target.name} was changed",
                why=f"{kept} no longer has the bytes that its name says",
                remedy="run the job again: the file was deleted and will be sent anew",
            )

    def prune(self, limit: int) -> None:
        """Delete what was not used for longest until the rest fits; what was used within the hour stays."""
        files = sorted((p for p in self._folder.iterdir() if p.is_file()), key=lambda p: p.stat().st_mtime)
        total = sum(p.stat().st_size for p in files)
        for path in files:
            if total <= limit or path.stat().st_mtime > time.time() - 3600:
                return
            total -= path.stat().st_size
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
