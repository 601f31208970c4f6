"""The program on a host: does one job in a process of its own and sends the results back.

``protocol`` defines what travels. ``python -m workbench.remote.worker < job.zip > results.tar`` does a job where
the package is installed; on a host ``transport`` starts ``main`` out of the zip.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
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
from pathlib import Path
from typing import BinaryIO

from ..deployment.probe import Probe, probe_bundle
from ..deployment.registry import Registry
from ..errors import WorkbenchError, refuse_unless
from ..files import scratch_folder, sweep
from ..records import decode, encode
from ..workspace import Workspace
from .cache import FileCache, default_folder
from .job import EvaluationSet, Job, run_job
from .protocol import JOB_ZIP, safe_name

#: Seconds between two progress messages of the same stage.
PAUSE_S = 0.05


def main(archive: str | None = None) -> int:
    """Do the job in a zip file, or in the zip on standard input; returns the exit status."""
    results = _own_stdout()
    try:
        sweep(Path(tempfile.gettempdir()), f"{JOB_ZIP}*.zip")
        with scratch_folder("The host's temporary folder cannot be used") as folder:
            if archive is not None:
                _end_with_stdin(folder, Path(archive))
            with zipfile.ZipFile(archive or _stdin_as_file(folder)) as job:
                return _serve(job, folder, results)
    except WorkbenchError as error:
        send_message(error={"what": error.what, "why": error.why, "remedy": error.remedy})
    except Exception as error:
        traceback.print_exc()
        why = f"{type(error).__name__}: {error}"
        remedy = "its traceback is part of the host's output"
        send_message(error={"what": "The worker failed", "why": why, "remedy": remedy})
    return 3


def _own_stdout() -> BinaryIO:
    """Standard output for the results alone; what libraries print goes to standard error instead."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return results


def _end_with_stdin(folder: Path, archive: Path) -> None:
    """End this process when standard input ends: then nobody waits for the job any more."""

    def wait():
        with contextlib.suppress(OSError):
            while os.read(0, 1 << 16):
                pass
        shutil.rmtree(folder, ignore_errors=True)
        archive.unlink(missing_ok=True)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _stdin_as_file(folder: Path) -> Path:
    path = folder / "job.zip"
    with open(path, "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return path


def send_message(**message) -> None:
    """Write one JSON line on standard error; its form is one of ``protocol.MESSAGES``."""
    sys.stderr.write(json.dumps(message) + "\n")
    sys.stderr.flush()


def _serve(archive: zipfile.ZipFile, folder: Path, results: BinaryIO) -> int:
    request = json.loads(archive.read("job.json"))
    if "doctor" in request:
        from .doctor import rows

        return _send_results(results, rows(), {})
    cache, files = FileCache(Path(request["cache"]) if request.get("cache") else default_folder()), request["files"]
    for name in archive.namelist():
        if name.startswith("blobs/"):
            cache.take(archive, name)
    if missing := [digest for digest in files.values() if not cache.holds(digest)]:
        send_message(missing=missing)
        return 0
    for name, digest in files.items():
        cache.copy(digest, folder / safe_name(name))
    cache.prune()
    if "bundle" in request:
        return _send_results(results, encode(probed_bundle(folder / "bundle", request["bundle"])), {})
    job = decode(Job, request["job"], lambda path: folder / safe_name(path))
    if job.backend == "tensorrt":  # the workspace is deleted after the job; kernel timings help the next build
        job = replace(job, options={"timings": str(cache.timings), **job.options})
    evaluation = EvaluationSet.load(folder / "evaluation.npz") if "evaluation.npz" in files else None
    report = run_job(job, Workspace(folder / "workspace"), evaluation, _Reporter())
    home = report.engine.path.parent
    built = {f"engine/{p.relative_to(home).as_posix()}": p for p in sorted(home.rglob("*")) if p.is_file()}
    return _send_results(results, encode(report, functools.partial(os.path.relpath, start=home)), built)


def probed_bundle(folder: Path, request: Mapping) -> Probe:
    """Probe a bundle that came here, and keep it in a registry of this machine where the request names one.

    Args:
        folder: the bundle.
        request: ``trust``, the bundle's digest, and ``registry``, a folder of this machine or None.

    Raises:
        WorkbenchError: the bundle is not the one that was sent; or neither model answers, and nothing was kept.
    """
    found = probe_bundle(folder, request["trust"])
    if request["registry"] is None:
        return found
    refuse_unless(
        bool(found.active),
        "The bundle is not deployed",
        why=f"neither model answers here: {found.original}; {found.engine}",
        remedy="install ONNX Runtime there, or ask probe what is wrong",
    )
    registry = Registry(request["registry"])
    kept = registry.promote(registry.add(folder, request["trust"]))
    return replace(found, kept=str(kept))


def _send_results(results: BinaryIO, report, files: Mapping[str, Path]) -> int:
    """Write a tar of the report and these files, and then its checksum as the last message."""
    out = _Checksum(results)
    content = json.dumps(report).encode()
    with tarfile.open(fileobj=out, mode="w|") as tar:  # ty: ignore[no-matching-overload] -- it only calls write()
        info = tarfile.TarInfo("report.json")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
        for name, path in files.items():
            info = tarfile.TarInfo(name)
            info.size = path.stat().st_size
            with open(path, "rb") as file:
                tar.addfile(info, file)
    results.close()
    send_message(sent={"sha256": out.sum.hexdigest(), "bytes": out.bytes})
    return 0


class _Checksum:
    """A file to write to that counts and digests what is written."""

    def __init__(self, file: BinaryIO):
        self._file, self.sum, self.bytes = file, hashlib.sha256(), 0

    def write(self, block: bytes) -> int:
        self._file.write(block)
        self.sum.update(block)
        self.bytes += len(block)
        return len(block)


class _Reporter:
    """Sends progress as messages, at most one per pause and stage."""

    def __init__(self):
        self._stage, self._time = "", 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self._stage or done == total or now > self._time + PAUSE_S:
            self._stage, self._time = stage, now
            send_message(stage=stage, done=done, total=total)


if __name__ == "__main__":
    sys.exit(main())
