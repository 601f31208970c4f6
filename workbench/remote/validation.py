"""The report of a host, validated against what was asked: what is known or computed here is not believed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..backends import backend, changed_file
from ..digests import file_digest
from ..errors import WorkbenchError, refuse_unless, shown
from ..measuring.reference import check_reference_array
from ..measuring.subject import model_name
from ..records import Batches, Engine, Measurement, decode
from .job import EvaluationSet, Job, Report

REMEDY = "run the job again; if it stays so, the other end is not the workbench"
#: Options that a worker adds by itself: folders of its own machine.
OPTIONS_OF_HOSTS = ("timings",)


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a host was asked to do, and who it is.

    Attributes:
        job: what was asked.
        evaluation: what its engine had to be evaluated on.
        host: the name of the host.
        elsewhere: whether it is another machine or another user's Python, and not this one.
        trusted: whether the user trusts it by name, see ``host.Host``.
    """

    job: Job
    evaluation: EvaluationSet
    host: str = ""
    elsewhere: bool = False
    trusted: bool = False


def validated(written, asked: Asked, home: Path, run_id: str) -> Report:
    """The report of a job whose files lie in ``home``.

    Args:
        written: plain JSON values.
        asked: what the report must be about.
        home: the folder with the engine's files.
        run_id: the name of the build here.

    Raises:
        WorkbenchError: it is no report, or reports about something else than was asked.
    """
    try:
        report = decode(Report, written)
    except WorkbenchError as error:
        raise WorkbenchError(
            "The host sent a report that cannot be read", why=f"{error.what}: {error.why}"[:400], remedy=REMEDY
        ) from error
    engine = _engine(report.engine, asked, home, run_id)
    measured = report.refusal is None
    batches, streams = (asked.job.measure, asked.job.streams) if measured else ((), ())
    _same("measurements at batches", tuple(one.batch for one in report.measurements), tuple(batches))
    _same("numbers of streams", tuple(one.streams for one in report.streams), tuple(streams))
    _same("layers", bool(report.layers) and not asked.job.layers, False)
    return dataclasses.replace(
        report,
        engine=engine,
        measurements=tuple(_of_images(one, asked, engine) for one in report.measurements),
        streams=tuple(_of_streams(one, asked, engine) for one in report.streams),
        layers=tuple(map(_layer, report.layers)),
    )


def _same(what: str, found, expected) -> None:
    refuse_unless(
        found == expected,
        f"The host reports about something else than was asked: its {what}",
        why=f"asked was {shown(expected)}, reported is {shown(found)}",
        remedy=REMEDY,
    )


# ---- the engine --------------------------------------------------------------------------------------------------


def _engine(found: Engine, asked: Asked, home: Path, run_id: str) -> Engine:
    """The engine as it was asked for, with the host's files, log and environment; checksums are computed here."""
    job = asked.job
    static = job.variant.graph.batch
    batches = Batches(static, static, static) if static else job.batches
    expected = {"backend": job.backend, "batches": batches, "card": job.card}
    for name, value in expected.items():
        _same(f"engine's {name}", getattr(found, name), value)
    _same("variant", (found.variant.digest, found.variant.recipe), (job.variant.digest, job.variant.recipe))
    added = {name: value for name, value in found.options.items() if name not in OPTIONS_OF_HOSTS}
    _same("engine's options", added, {n: v for n, v in job.options.items() if n not in OPTIONS_OF_HOSTS})
    _same("seconds of the build", found.build_seconds >= 0, True)
    inside = _inside(home, found)
    engine = dataclasses.replace(
        found,
        path=inside(found.path),
        log_path=None if found.log_path is None else inside(found.log_path),
        variant=job.variant,
        run_id=run_id,
        options=dict(job.options),
        host=asked.host if asked.elsewhere else "",
        trusted=asked.trusted or not asked.elsewhere,
    )
    _check_bytes(engine)
    runtime = backend(job.backend)
    return dataclasses.replace(engine, checksums={file.name: file_digest(file) for file in runtime.files(engine)})


def _inside(home: Path, engine: Engine) -> Callable[[Path], Path]:
    def place(path: Path) -> Path:
        target = home / path
        refuse_unless(
            not path.is_absolute() and target.resolve().is_relative_to(home.resolve()) and target.is_file(),
            f"The host sent no engine for {engine.label}",
            why=f"its report names {path.name}, which did not come",
            remedy=REMEDY,
        )
        return target

    return place


def _check_bytes(engine: Engine) -> None:
    """Refuse files that changed since the build, or that are not the variant's where an engine is its copy."""
    names = [name for name in engine.checksums if Path(name).name != name]
    changed = names[0] if names else changed_file(engine)
    refuse_unless(
        changed is None,
        f"The host sent a damaged engine for {engine.label}",
        why=f"{changed} is missing or has other bytes than when it was built",
        remedy=REMEDY,
    )
    if backend(engine.backend).copies_variant:
        _same("model", file_digest(engine.path), file_digest(engine.variant.path))


# ---- what was measured -------------------------------------------------------------------------------------------


def _of_images(found: Measurement, asked: Asked, engine: Engine) -> Measurement:
    """A measurement at one batch, with the predictions of every image that was sent."""
    evaluation, classes = asked.evaluation, asked.job.variant.graph.classes
    images = 0 if evaluation.images is None else len(evaluation.images)
    reference = None if evaluation.reference is None else check_reference_array(evaluation.reference, images)
    _same("dataset", found.dataset, asked.job.dataset)
    _same("number of streams", found.streams, 1)
    _same("number of predictions", len(found.predictions), images)
    _same("labels", found.labels, _listed(evaluation.labels))
    _same("reference", found.reference_predictions, _listed(reference))
    within = all(each >= 0 and (classes is None or each < classes) for each in found.predictions)
    _same("predictions within the classes", within, True)
    return _timed(found, asked.job, engine, calls=int(asked.job.seconds > 0))


def _of_streams(found: Measurement, asked: Asked, engine: Engine) -> Measurement:
    """A measurement of several streams, which classify nothing."""
    _same("batch of the streams", found.batch, engine.batches.opt)
    _same("predictions of the streams", (*found.predictions, *found.labels, *found.reference_predictions), ())
    return _timed(found, asked.job, engine, calls=1)


def _timed(found: Measurement, job: Job, engine: Engine, calls: int) -> Measurement:
    """A measurement of this engine: the host's times and predictions, and all else as it is known here."""
    known = {
        "backend": job.backend,
        "model": model_name(job.variant.graph),
        "recipe": job.variant.recipe,
        "variant": job.variant.digest,
        "card": job.card,
    }
    for name, value in known.items():
        _same(f"measurement's {name}", getattr(found, name), value)
    _same("measurement's execution", found.execution in ("executed", "emulated"), True)
    positive = all(seconds > 0 for seconds in (*found.latencies_s, *found.device_s))
    counted = sum(found.end_to_end.calls) if found.end_to_end and found.streams > 1 else 0
    _same("calls, each longer than zero", positive and len(found.latencies_s) + counted >= calls, True)
    _same("sizes and counts of zero or more", min(found.memory_bytes, found.warmup_calls) >= 0, True)
    size = sum(file.stat().st_size for file in backend(job.backend).files(engine))
    return dataclasses.replace(found, run_id=engine.run_id, build_seconds=engine.build_seconds, engine_bytes=size)


def _listed(array) -> tuple[int, ...]:
    return () if array is None else tuple(np.asarray(array).tolist())


def _layer(row: Mapping) -> Mapping:
    seconds = row.get("seconds")
    named = isinstance(row.get("name"), str) and isinstance(row.get("type"), str)
    _same("layer's name, type and seconds", named and isinstance(seconds, int | float) and seconds >= 0, True)
    return row


# ---- the doctor --------------------------------------------------------------------------------------------------


def validated_rows(written) -> list[dict]:
    """The rows of a host's doctor, each with the texts ``item``, ``found``, ``status`` and ``remedy``.

    Raises:
        WorkbenchError: they are no such rows.
    """
    names = {"item", "found", "status", "remedy"}
    holds = isinstance(written, list) and all(
        isinstance(row, dict) and set(row) == names and all(isinstance(text, str) for text in row.values())
        for row in written
    )
    refuse_unless(holds, "The host sent no doctor's rows", why=f"it sent {shown(written)}", remedy=REMEDY)
    return written
