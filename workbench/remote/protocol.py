"""What travels to a host and back: the light half with a job in a zip, an engine with its report in a tar."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

from ..backends import changed_file
from ..backends.external_data import external_files
from ..errors import WorkbenchError, refuse_unless
from ..ledger import new_run_id
from ..records import Engine, Variant, decode
from ..workspace import Workspace
from .job import EvaluationSet, Report
from .reply import received

#: What of this package a host needs: the modules of the ground floor, and the packages of the light half.
NOT_GROUND = ("__main__", "tutorial")
PACKAGES = ("records", "datasets", "backends", "measuring", "remote")
_REMEDY = "run the job again; if it stays so, the other end is not the workbench"


def files_of(variant: Variant, evaluation: EvaluationSet, folder: Path) -> dict[str, Path]:
    """Name in the job's folder -> the file here; arrays are written into ``folder``."""
    files = {f"variant/{variant.path.name}": variant.path}
    for path in external_files(variant.path):
        files[f"variant/{path.relative_to(variant.path.parent).as_posix()}"] = path
    if any(array is not None for array in (evaluation.images, evaluation.labels, evaluation.reference)):
        evaluation.save(folder / "evaluation.npz")
        files["evaluation.npz"] = folder / "evaluation.npz"
    return files


def pack(archive: Path, request: Mapping, blobs: Mapping[str, Path]) -> None:
    """Write the zip of a job: the light half, the request, and the files that the host lacks, by digest."""
    with zipfile.ZipFile(archive, "w") as job:  # weights and images hardly shrink, so nothing is compressed
        for name, source in light_half().items():
            job.writestr(name, source)
        job.writestr("job.json", json.dumps(request))
        for key, path in blobs.items():
            job.write(path, f"blobs/{key}")


@functools.cache
def light_half() -> Mapping[str, bytes]:
    """The modules that run on a host and the data files beside them: name in the archive -> bytes."""
    home = Path(importlib.util.find_spec(__package__.partition(".")[0]).origin).parent
    paths = [path for path in sorted(home.glob("*.py")) if path.stem not in NOT_GROUND]
    kinds = (".py", ".json")
    paths += [path for name in PACKAGES for path in sorted((home / name).rglob("*")) if path.suffix in kinds]
    return {path.relative_to(home.parent).as_posix(): path.read_bytes() for path in paths}


def told(archive: Path, folder: Path):
    """The report in a tar that came back, unpacked into ``folder``: plain JSON values.

    Raises:
        WorkbenchError: the tar is not one that a worker packs.
    """
    try:
        return json.loads((received(archive, folder) / "report.json").read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise WorkbenchError("The host sent no report", why=str(error)[:400], remedy=_REMEDY) from error


def keep(variant: Variant, archive: Path, workspace: Workspace, folder: Path) -> Report:
    """Put the engine that came back into the workspace, and its record into the ledger.

    Raises:
        WorkbenchError: the report is no report, or its engine did not come, or came with other bytes.
    """
    written, run_id = told(archive, folder / "answer"), new_run_id()
    with workspace.new_folder("engines", run_id) as home:
        _copy(folder / "answer" / "engine", home)
        try:
            report = decode(Report, written, lambda path: home / path)
            engine = dataclasses.replace(report.engine, variant=variant, run_id=run_id)
            _check_engine(engine, home)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            why = f"{type(error).__name__}: {error}"[:400]
            raise WorkbenchError("The host sent a report that cannot be read", why=why, remedy=_REMEDY) from error
        workspace.append("engine", variant.digest, engine, run_id)
    return dataclasses.replace(report, engine=engine)


def _copy(source: Path, target: Path) -> None:
    """Every file below ``source``; unlike ``shutil.copytree`` it raises the system's own error for a full disk."""
    for file in (path for path in sorted(source.rglob("*")) if path.is_file()):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def _check_engine(engine: Engine, home: Path) -> None:
    """A report may name files only that came with it, as they were built."""
    for path in filter(None, (engine.path, engine.log_path)):
        refuse_unless(
            path.is_file() and path.resolve().is_relative_to(home.resolve()),
            f"The host sent no engine for {engine.label}",
            why=f"its report names {path.name}, which did not come",
            remedy=_REMEDY,
        )
    changed = changed_file(engine)
    refuse_unless(
        changed is None,
        f"The host sent a damaged engine for {engine.label}",
        why=f"{changed} is missing or has other bytes than when it was built",
        remedy=_REMEDY,
    )
