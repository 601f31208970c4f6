"""A job: build an engine from a variant and measure it, in this process or in a worker on another host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..backends import backend, build_engine, open_engine
from ..backends.base import Session
from ..backends.hardware.kernel_trace import tracer_missing
from ..backends.kernel_record import record_kernels
from ..errors import Cancelled, Refusal, WorkbenchError
from ..measuring.measurement import measure_session, one_batch
from ..measuring.subject import Subject
from ..measuring.throughput import measure_streams
from ..progress import Progress, silent
from ..records import Batches, Engine, Measurement, Variant


@dataclass(frozen=True)
class Job:
    """Build an engine from a variant and measure it.

    Attributes:
        variant: what to build from.
        backend: the runtime to build with.
        batches: the batch sizes that the engine must take.
        measure: batch sizes to measure latency, memory and accuracy at; none builds only.
        streams: numbers of streams to measure throughput with, at the batch that the engine is tuned for.
        layers: whether to time every layer, and list every kernel of a GPU, in runs of their own.
        card: the GPU to build for; None is the host's own.
        options: the backend's own options.
        seconds: how long each batch size is timed.
        dataset: the name of the images in tables.
    """

    variant: Variant
    backend: str
    batches: Batches
    measure: tuple[int, ...] = ()
    streams: tuple[int, ...] = ()
    layers: bool = False
    card: str | None = None
    options: Mapping = field(default_factory=dict)
    seconds: float = 2.0
    dataset: str = ""


@dataclass(frozen=True)
class Report:
    """The result of a job.

    ``refusal`` is the reason why the built engine could not be opened on the host, ``kernels_refusal`` why its
    kernels are not known although the job asked for layers. The kernels are in a file beside the engine.
    """

    engine: Engine
    measurements: tuple[Measurement, ...] = ()
    streams: tuple[Measurement, ...] = ()
    layers: tuple[Mapping, ...] = ()
    refusal: Refusal | None = None
    kernels_refusal: Refusal | None = None


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Images (N, H, W, 3) float32, normalised; their labels (N,); and the reference's classes (N,).

    Without images an engine is timed on noise. Without a reference ``agreement`` is not measured: the host may lack
    the runtime that computes one.
    """

    images: np.ndarray | None = None
    labels: np.ndarray | None = None
    reference: np.ndarray | None = None

    def save(self, path: Path) -> None:
        """Write the arrays that are not None to an .npz file."""
        found = {"images": self.images, "labels": self.labels, "reference": self.reference}
        arrays = {name: np.asarray(array) for name, array in found.items() if array is not None}
        np.savez(path, **arrays)  # ty: ignore[invalid-argument-type] -- the stub takes an array for allow_pickle

    @classmethod
    def load(cls, path: Path) -> EvaluationSet:
        """What ``save`` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})


def run_job(job: Job, workspace, evaluation: EvaluationSet | None = None, progress: Progress = silent) -> Report:
    """Run a job in this process; the engine is appended to the workspace's ledger.

    Raises:
        WorkbenchError: the runtime is missing or refuses the variant; or logits are NaN or infinite.
    """
    evaluation = evaluation or EvaluationSet()
    engine = build_engine(
        job.variant,
        job.backend,
        workspace,
        batches=job.batches,
        card=job.card,
        options=dict(job.options) or None,
        progress=progress,
    )
    if not (job.measure or job.streams or job.layers):
        return Report(engine)
    try:
        session = open_engine(engine)
    except Cancelled:
        raise
    except WorkbenchError as error:
        return Report(engine, refusal=error.refusal)
    subject = Subject.of(engine)
    with session:
        measurements = tuple(_measured(session, subject, job, evaluation, batch, progress) for batch in job.measure)
        feeds = subject.feeds(one_batch(subject, evaluation.images, engine.batches.opt))
        layers = session.layers(feeds) or () if job.layers else ()
        unknown = _keep_kernels(session, engine, feeds) if job.layers else None
    streams = ()
    if job.streams:
        streams = measure_streams(
            engine, job.streams, images=evaluation.images, seconds=job.seconds, progress=progress
        )
    return Report(engine, measurements, streams, tuple(layers), kernels_refusal=unknown)


def _keep_kernels(session: Session, engine: Engine, feeds: Mapping[str, np.ndarray]) -> Refusal | None:
    """List the kernels of a call beside the engine; the reason where they cannot be listed, and nothing is lost."""
    try:
        rows = session.kernels(feeds)
        if rows:
            record_kernels(engine, engine.batches.opt, rows)
            return None
    except Cancelled:
        raise
    except WorkbenchError as error:
        return error.refusal
    return tracer_missing() if backend(engine.backend).isolated else None


def _measured(
    session, subject: Subject, job: Job, evaluation: EvaluationSet, batch: int, progress: Progress
) -> Measurement:
    return measure_session(
        session,
        subject,
        evaluation.images,
        evaluation.labels,
        batch=batch,
        reference=evaluation.reference,
        seconds=job.seconds,
        dataset=job.dataset,
        progress=progress,
    )
