"""What travels to a host and back, and the checks of what came.

- To the host, on the worker's standard input: a zip of the light half of this package, ``job.json``, and
  ``blobs/<sha-256>``, the files that the host does not keep yet. A host keeps files by digest, so that images and
  weights travel once.
- From the host, on standard error: JSON lines, listed in ``MESSAGES``. Any other line was printed by a library.
- From the host, on standard output: a tar of ``report.json`` and the engine's folder. The last message holds its
  checksum and length.

The end of standard input means that nobody waits for the job any more: the worker then ends at once.
"""

from __future__ import annotations

import functools
import json
import shutil
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from ..backends import backend
from ..backends.external_data import external_files
from ..code_version import import_closure, source_file
from ..errors import WorkbenchError
from ..ledger import new_run_id
from ..workspace import Workspace
from .job import EvaluationSet, Job, Report
from .validation import REMEDY, Asked, validated

#: The module that a host runs; with all that it imports it is the light half of this package.
WORKER = "workbench.remote.worker"
#: The messages of a worker: the key that marks a kind -> the form of the whole message.
MESSAGES = {
    "stage": {"stage": str, "done": int, "total": int},  # while it works
    "error": {"error": {"what": str, "why": str, "remedy": str}},  # it cannot do the job
    "missing": {"missing": [str]},  # digests of files that must be sent first
    "sent": {"sent": {"sha256": str, "bytes": int}},  # the last: the checksum of the results
}
#: How the name of a job's zip begins in a host's temporary folder.
JOB_ZIP = "vit-workbench-job-"
#: Files that may come back.
MAX_FILES = 1000
_FOREIGN = "the other end is not the workbench, or somebody changed what travelled; do not use its results"


# ---- to the host -------------------------------------------------------------------------------------------------


def files_of(job: Job, evaluation: EvaluationSet, folder: Path) -> dict[str, Path]:
    """The files of a job: name on the host -> file here. The evaluation set is written into ``folder``."""
    emulated = backend(job.backend).emulated_types(job.variant)
    files = {}
    for model in filter(None, (job.variant.path, job.variant.emulation if emulated else None)):
        files[f"variant/{model.name}"] = model
        for path in external_files(model):
            files[f"variant/{path.relative_to(model.parent).as_posix()}"] = path
    if any(array is not None for array in (evaluation.images, evaluation.labels, evaluation.reference)):
        evaluation.save(folder / "evaluation.npz")
        files["evaluation.npz"] = folder / "evaluation.npz"
    return files


def files_of_bundle(folder: Path) -> dict[str, Path]:
    """The files of a bundle that a host is to have: name on the host -> file here."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {f"bundle/{path.relative_to(folder).as_posix()}": path for path in files}


def pack_job(archive: Path, request: Mapping, blobs: Mapping[str, Path]) -> None:
    """Write the zip of a job.

    Args:
        archive: the zip.
        request: the content of ``job.json``.
        blobs: the files that the host lacks, by digest.
    """
    with zipfile.ZipFile(archive, "w") as job:  # weights and images hardly shrink, so nothing is compressed
        for name, content in light_half().items():
            job.writestr(name, content)
        job.writestr("job.json", json.dumps(request))
        for digest, path in blobs.items():
            job.write(path, f"blobs/{digest}")


@functools.cache
def light_half() -> Mapping[str, bytes]:
    """The part of this package that a host needs: name in the zip -> content.

    These are the worker's import closure, the ``__init__`` of every folder on the way, and JSON data beside them.
    """
    files = set(filter(None, map(source_file, _needed_modules())))
    files |= {data for folder in {file.parent for file in files} for data in folder.glob("*.json")}
    root = Path(__file__).parents[2]
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in sorted(files)}


def _needed_modules() -> set[str]:
    needed: set[str] = set()
    waiting = {WORKER}
    while waiting:
        needed.update(*map(import_closure, waiting))
        waiting = {package for module in needed for package in _packages_above(module)} - needed
    return needed


def _packages_above(module: str) -> Iterator[str]:
    """``a`` and ``a.b`` for ``a.b.c``: importing a module runs the ``__init__`` of each."""
    parts = module.split(".")
    return (".".join(parts[:length]) for length in range(1, len(parts)))


# ---- from the host -----------------------------------------------------------------------------------------------


def message_in(line: bytes) -> tuple[str, dict] | None:
    """The kind and the content of a worker's message, or None for a line that a library printed."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kind = next((kind for kind, form in MESSAGES.items() if _has_form(message, form)), None)
    return (kind, message) if kind else None


def _has_form(value, form) -> bool:
    if isinstance(form, dict):
        return isinstance(value, dict) and all(_has_form(value.get(key), inner) for key, inner in form.items())
    if isinstance(form, list):
        return isinstance(value, list) and all(_has_form(item, form[0]) for item in value)
    if form is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
    return isinstance(value, form)


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
            remedy=_FOREIGN,
        )
    return path


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack the tar of results into a new folder: plain files only, none outside it.

    Raises:
        WorkbenchError: it is no tar, or holds links, devices, too many files, or names that lead elsewhere or occur
            twice, or unpacks to more than was sent.
    """
    folder.mkdir()
    left = archive.stat().st_size
    try:
        with tarfile.open(archive, "r:") as tar:  # not compressed, so that a small file cannot fill the disk
            for count, member in enumerate(tar):
                left -= member.size
                source = tar.extractfile(member) if member.isfile() and not member.issparse() else None
                if source is None or count >= MAX_FILES or left < 0:
                    raise _not_results(member.name)
                target = folder / safe_name(member.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                with source, open(target, "xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
    except (tarfile.TarError, FileExistsError, NotADirectoryError, ValueError) as error:
        raise WorkbenchError(
            "What the host sent cannot be unpacked", why=str(error), remedy="run the job again"
        ) from error
    return folder


def _not_results(name: str) -> WorkbenchError:
    return WorkbenchError(
        "What the host sent is not a list of results",
        why=f"{name!r} is no plain file, or there are more than {MAX_FILES} of them, or more bytes than were sent",
        remedy=_FOREIGN,
    )


def read_report(archive: Path, folder: Path):
    """The report in a tar of results, as plain JSON values; the tar is unpacked into ``folder``.

    Raises:
        WorkbenchError: the tar is not one that a worker packs.
    """
    try:
        return json.loads((unpack(archive, folder) / "report.json").read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise WorkbenchError("The host sent no report", why=str(error)[:400], remedy=REMEDY) from error


def keep_results(asked: Asked, archive: Path, workspace: Workspace, folder: Path) -> Report:
    """Put the engine in a tar of results into the workspace, and its record into the ledger.

    Raises:
        WorkbenchError: the report cannot be read, is about something else than was asked, or its engine is missing
            or has other bytes. The workspace then stays as it was.
    """
    written, run_id = read_report(archive, folder / "results"), new_run_id()
    with workspace.new_folder("engines", run_id) as home:
        _copy_files(folder / "results" / "engine", home)
        report = validated(written, asked, home, run_id)
        workspace.append("engine", asked.job.variant.digest, report.engine, run_id)
    return report


def _copy_files(source: Path, target: Path) -> None:
    """Every file below ``source``; unlike ``shutil.copytree`` it raises the system's own error for a full disk."""
    for file in (path for path in sorted(source.rglob("*")) if path.is_file()):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
