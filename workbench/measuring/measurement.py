"""Everything that is measured of one engine at one batch size, as one record."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..backends import open_engine
from ..backends.base import Session
from ..backends.hardware.cpu import environment
from ..errors import refuse_unless
from ..ledger import new_run_id
from ..progress import Progress, silent
from ..records import Engine, Graph, Measurement
from .accuracy import Predictions, predict
from .reference import check_reference_array, reference_classes
from .subject import Subject
from .timing import Latency, time_calls, time_in_turns


def measure(
    engine: Engine,
    images: np.ndarray | None = None,
    labels=None,
    *,
    batch: int | None = None,
    reference=None,
    seconds: float = 2.0,
    dataset: str = "",
    progress: Progress = silent,
) -> Measurement:
    """Measure latency, accuracy and memory of an engine.

    Args:
        engine: what ``build_engine`` made.
        images: float32 (N, H, W, 3) or in the graph's own layout, normalised as its preprocessing says; None times
            the engine on noise and measures no accuracy.
        labels: N whole numbers; without them ``top1`` and ``top5`` are NaN, while ``agreement`` is still measured.
        batch: images per call; None takes the size that the engine is tuned for.
        reference: whose top class ``agreement`` compares with: None for the FP32 graph on ONNX Runtime, another
            Engine, a Session, logits (N, classes), or classes (N,).
        seconds: how long calls are timed after the warm-up; 0 measures accuracy alone.
        dataset: the name of the images, for the record.
        progress: see ``progress.Progress``; stages ``warm-up``, ``latency``, ``accuracy``, ``reference``.

    Raises:
        WorkbenchError: images, labels, batch or reference do not fit the engine, told before any work is done;
            the engine cannot be opened; or it answers with NaN.
    """
    subject = Subject.of(engine)
    batch = engine.batches.opt if batch is None else batch
    task = _Task(images, labels, batch, reference, seconds, dataset, progress).checked(subject)
    before = environment()  # the load average must not count the measurement itself
    with open_engine(engine) as session:
        return _measure(session, subject, engine.variant.graph, task, before)


def measure_session(
    session: Session,
    subject: Subject,
    images: np.ndarray | None = None,
    labels=None,
    *,
    batch: int = 8,
    reference=None,
    seconds: float = 2.0,
    dataset: str = "",
    progress: Progress = silent,
) -> Measurement:
    """Measure an open session that has no engine, such as the JAX model; arguments as for ``measure``.

    With a reference of None there is nothing to agree with, and ``agreement`` is NaN.
    """
    task = _Task(images, labels, batch, reference, seconds, dataset, progress).checked(subject)
    return _measure(session, subject, None, task, environment())


def measure_in_turns(
    engines: Sequence[Engine],
    images: np.ndarray | None = None,
    labels=None,
    *,
    batch: int | None = None,
    reference=None,
    seconds: float = 2.0,
    dataset: str = "",
    progress: Progress = silent,
) -> tuple[Measurement, ...]:
    """Measure several engines whose timed calls take turns; arguments as for ``measure``.

    A busy neighbour, a falling clock or a full disk then slows all of them alike, so that ``compare`` can tell
    smaller differences than between measurements taken one after the other. All engines are open at the same time.
    """
    subjects = [Subject.of(engine) for engine in engines]
    refuse_unless(
        len(engines) >= 2 and seconds > 0,
        "Engines cannot take turns like this",
        why=f"there are {len(engines)} engines and {seconds} seconds",
        remedy="give two engines or more, and a time above zero",
    )
    batch = engines[0].batches.opt if batch is None else batch
    tasks = [
        _Task(images, labels, batch, reference, seconds, dataset, progress).checked(subject) for subject in subjects
    ]
    before = environment()
    with contextlib.ExitStack() as stack:
        sessions, memories = [], []
        for engine, subject, task in zip(engines, subjects, tasks):
            sessions.append(stack.enter_context(open_engine(engine)))
            sessions[-1].run(task.feeds(subject))
            memories.append(sessions[-1].memory())  # now, because the next one adds to the process
        pairs = [(session, task.feeds(subject)) for session, task, subject in zip(sessions, tasks, subjects)]
        latencies = time_in_turns(pairs, seconds=seconds, turns=new_run_id(), progress=progress)
        records = [
            _record(session, subject, engine.variant.graph, task, before, latency)
            for session, subject, engine, task, latency in zip(sessions, subjects, engines, tasks, latencies)
        ]
    return tuple(dataclasses.replace(r, memory_bytes=bytes_) for r, bytes_ in zip(records, memories))


@dataclass(frozen=True, eq=False)
class _Task:
    """What is to be measured of a subject."""

    images: np.ndarray | None
    labels: np.ndarray | None
    batch: int
    reference: object
    seconds: float
    dataset: str
    progress: Progress

    def checked(self, subject: Subject) -> _Task:
        """The same task, channels last and labels as int64, once everything in it fits the subject."""
        subject.check_batch(self.batch)
        refuse_unless(
            isinstance(self.seconds, int | float) and 0 <= self.seconds < math.inf,
            "Calls are timed for a number of seconds",
            why=f"seconds is {self.seconds!r}",
            remedy="give 0 to measure accuracy alone, or some seconds; 2 is the default",
        )
        if self.images is None:
            refuse_unless(
                self.labels is None and self.reference is None and self.seconds > 0,
                "There is nothing to measure" if self.seconds <= 0 else "Accuracy needs images",
                why="images is None",
                remedy="give images, or leave labels and reference out and time the engine for some seconds",
            )
            return self
        images = subject.checked_images(self.images)
        if self.reference is not None and not isinstance(self.reference, Engine | Session):
            check_reference_array(self.reference, len(images))
        labels = None if self.labels is None else subject.checked_labels(self.labels, len(images))
        return dataclasses.replace(self, images=images, labels=labels)

    def feeds(self, subject: Subject) -> dict[str, np.ndarray]:
        """The batch that is timed."""
        return subject.feeds(one_batch(subject, self.images, self.batch))


def _measure(session: Session, subject: Subject, graph: Graph | None, task: _Task, before: Mapping) -> Measurement:
    latency = Latency()
    if task.seconds > 0:
        latency = time_calls(session, task.feeds(subject), seconds=task.seconds, progress=task.progress)
    return _record(session, subject, graph, task, before, latency)


def _record(
    session: Session, subject: Subject, graph: Graph | None, task: _Task, before: Mapping, latency: Latency
) -> Measurement:
    answers, compared, compared_with = Predictions(np.empty(0, np.int64)), np.empty(0, np.int64), ""
    if task.images is not None:
        answers = predict(
            subject.logits(session),
            task.images,
            task.labels,
            batch=task.batch,
            at_least=subject.batches.min if subject.batches else 1,
            progress=task.progress,
        )
    measured = facts(
        session, subject, task.batch, before, latency
    )  # the memory's peak, before a reference adds to it
    if task.images is not None:
        compared, compared_with = reference_classes(
            task.reference, subject, graph, task.images, task.batch, task.progress
        )
    return Measurement(
        **measured,
        predictions=tuple(answers.classes.tolist()),
        labels=() if task.labels is None else tuple(task.labels.tolist()),
        reference_predictions=tuple(compared.tolist()),
        top5_hits=answers.top5_hits,
        reference=compared_with,
        dataset=task.dataset,
    )


def facts(session: Session, subject: Subject, batch: int, before: Mapping, latency: Latency) -> dict:
    """The fields of a ``Measurement`` that have nothing to do with accuracy."""
    turns = {"turns": latency.turns} if latency.turns else {}
    return dict(
        backend=subject.backend,
        model=subject.model,
        recipe=subject.recipe,
        batch=batch,
        variant=subject.variant,
        latencies_s=latency.seconds,
        device_s=latency.device_seconds,
        warmup_calls=latency.warmup_calls,
        card=subject.card,
        memory_bytes=session.memory(),
        engine_bytes=subject.engine_bytes,
        build_seconds=subject.build_seconds,
        execution="emulated" if subject.emulated else "executed",
        environment={**before, **session.environment, **turns},
        run_id=new_run_id(),
        notes=notes(subject, latency),
    )


def one_batch(subject: Subject, images: np.ndarray | None, batch: int) -> np.ndarray:
    """The first images, repeated where there are too few; standard normal noise where there are none."""
    if images is None:
        shape = (batch, subject.size, subject.size, 3)
        return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return images[np.arange(batch) % len(images)]


def notes(subject: Subject, latency: Latency) -> tuple[str, ...]:
    """What a reader of the numbers must know."""
    found = []
    if subject.emulated:
        types = ", ".join(subject.emulated)
        found.append(f"{types} is emulated by {subject.backend}: the accuracy is the type's, the latency is not")
    if not latency.settled:
        found.append("the warm-up reached its time limit before the latency settled within 2 %")
    return tuple(found)
