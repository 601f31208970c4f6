"""Everything that is measured of one engine at one batch size, as one record."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends import open_engine
from ..backends.base import Session
from ..backends.hardware.cpu import environment
from ..backends.hardware.load import watched
from ..errors import refuse_unless
from ..ledger import new_run_id
from ..limits import refuse_beyond_memory
from ..progress import Progress, silent
from ..records import Engine, Graph, Measurement
from .accuracy import CONSTANT, Evaluated, predict
from .input_notes import input_notes
from .reference import check_reference_array, reference_classes
from .subject import Subject
from .timing import Feeds, Latency, Round, interleaved_rounds, joined, time_calls


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
        WorkbenchError: images, labels, batch or reference do not fit the engine (checked before any work); the
            engine cannot be opened; or its logits are NaN or infinite.
    """
    subject = Subject.of(engine)
    batch = engine.batches.opt if batch is None else batch
    request = _Request(images, labels, batch, reference, seconds, dataset, progress).checked(subject)
    before = environment()  # the load average must not count the measurement itself
    with open_engine(engine) as session:
        return _measure(session, subject, engine.variant.graph, request, before)


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
    request = _Request(images, labels, batch, reference, seconds, dataset, progress).checked(subject)
    return _measure(session, subject, None, request, environment())


def measure_interleaved(
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
    """Measure several engines whose timed calls are interleaved; arguments as for ``measure``.

    A busy neighbour, a falling clock or a full disk then slows all of them alike, so that ``compare`` can show
    smaller differences than between measurements taken one after the other. All engines are open at the same time,
    and all are closed and opened anew several times (``timing.interleaved_rounds``): a verdict is about engines,
    and the memory that one opening happens to get makes it some percent faster or slower than another. That and
    the warm-ups take up to ``seconds`` more for each engine.
    """
    subjects = [Subject.of(engine) for engine in engines]
    refuse_unless(
        len(engines) >= 2 and seconds > 0,
        "Engines cannot be interleaved like this",
        why=f"there are {len(engines)} engines and {seconds} seconds",
        remedy="give two engines or more, and a time above zero",
    )
    batch = engines[0].batches.opt if batch is None else batch
    requests = [_Request(images, labels, batch, reference, seconds, dataset, progress).checked(s) for s in subjects]
    before, name = environment(), new_run_id()
    rounds: dict[int, list[Round]] = {index: [] for index in range(len(engines))}

    def open_session(index: int) -> tuple[Session, Feeds]:
        feeds = requests[index].feeds(subjects[index])
        return open_engine(engines[index]), feeds

    taken = dict.fromkeys(rounds, ())
    timed = interleaved_rounds(taken, open_session, seconds=seconds, progress=progress)
    with watched() as watch, contextlib.closing(timed):
        for index, one in timed:
            rounds[index].append(one)
    found = []
    for index, engine in enumerate(engines):
        latency = dataclasses.replace(joined(rounds[index], name), load=watch.load)
        subject, memory = subjects[index], rounds[index][0].memory_bytes
        with open_engine(engine) as session:
            graph = engine.variant.graph
            found.append(_with_accuracy(session, subject, graph, requests[index], before, latency, memory))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class _Request:
    """What is to be measured of a subject; arguments of ``measure``."""

    images: np.ndarray | None
    labels: Any
    batch: int
    reference: Any
    seconds: float
    dataset: str
    progress: Progress

    def checked(self, subject: Subject) -> _Request:
        """The same request, images with the channels last and labels as int64, once everything fits the subject."""
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

    def feeds(self, subject: Subject) -> Feeds:
        """The batch that is timed."""
        return subject.feeds(one_batch(subject, self.images, self.batch))


def _measure(
    session: Session, subject: Subject, graph: Graph | None, request: _Request, before: Mapping
) -> Measurement:
    latency = Latency()
    if request.seconds > 0:
        feeds = request.feeds(subject)
        latency = time_calls(session, feeds, seconds=request.seconds, progress=request.progress)
    return _with_accuracy(session, subject, graph, request, before, latency)


def _with_accuracy(
    session: Session,
    subject: Subject,
    graph: Graph | None,
    request: _Request,
    before: Mapping,
    latency: Latency,
    memory_bytes: int | None = None,
) -> Measurement:
    """The record of an open session that was timed; its memory is read now where it was not read before."""
    facts, images, batch = {**before, **session.environment}, request.images, request.batch
    if images is None:
        memory_bytes = memory_bytes or session.memory()
        return measurement_of(subject, batch, latency, memory_bytes, facts, dataset=request.dataset)
    if subject.emulated:
        memory_bytes = memory_bytes or session.memory()  # before the emulation adds to it
    with subject.exact(session) as exact:
        predictions = predict(
            subject.logits(exact),
            images,
            request.labels,
            batch=batch,
            at_least=subject.batches.min if subject.batches else 1,
            progress=request.progress,
        )
        about_images = input_notes(exact, subject, images)
    memory_bytes = memory_bytes or session.memory()  # before a reference adds to it
    classes, name = reference_classes(request.reference, subject, graph, images, batch, request.progress)
    evaluated = Evaluated(predictions, request.labels, classes, name)
    found = measurement_of(subject, batch, latency, memory_bytes, facts, evaluated, dataset=request.dataset)
    return dataclasses.replace(found, notes=(*found.notes, *about_images))


def measurement_of(
    subject: Subject,
    batch: int,
    latency: Latency,
    memory_bytes: int,
    facts: Mapping,
    evaluated: Evaluated | None = None,
    *,
    dataset: str = "",
    streams: int = 1,
    run_id: str = "",
) -> Measurement:
    """The record of what was observed; every measurement of the workbench is made here.

    Args:
        subject: what was measured.
        batch: images per call.
        latency: how long the calls took.
        memory_bytes: the session's peak memory.
        facts: the machine, the runtime and the load.
        evaluated: predictions, labels and the reference's classes; None where no images were classified.
        dataset: the name of the images.
        streams: how many streams called at the same time.
        run_id: of the build or study that the measurement belongs to; a new one when left out.
    """
    accuracy = evaluated or Evaluated()
    interleaved = {"interleaved": latency.interleaved} if latency.interleaved else {}
    load = latency.load.facts() if latency.load else {}
    return Measurement(
        backend=subject.backend,
        model=subject.model,
        recipe=subject.recipe,
        batch=batch,
        variant=subject.variant,
        latencies_s=latency.seconds,
        rounds=latency.rounds,
        openings=latency.openings,
        device_s=latency.device_seconds,
        end_to_end=latency.end_to_end,
        compute=latency.compute,
        warmup_calls=latency.warmup_calls,
        predictions=tuple(accuracy.predictions.classes.tolist()),
        labels=() if accuracy.labels is None else tuple(accuracy.labels.tolist()),
        reference_predictions=tuple(accuracy.reference_classes.tolist()),
        top5_hits=accuracy.predictions.top5_hits,
        reference=accuracy.reference,
        dataset=dataset,
        card=subject.card,
        streams=streams,
        memory_bytes=memory_bytes,
        engine_bytes=subject.engine_bytes,
        build_seconds=subject.build_seconds,
        execution="emulated" if subject.emulated else "executed",
        environment={**facts, **load, **interleaved},
        run_id=run_id or new_run_id(),
        notes=_notes(subject, latency, accuracy),
    )


def one_batch(subject: Subject, images: np.ndarray | None, batch: int) -> np.ndarray:
    """The first images, repeated where there are too few; noise where there are none."""
    size = 12 * batch * subject.size**2
    refuse_beyond_memory(size, f"A batch of {batch:,} images does not fit in memory", "measure at a smaller batch")
    if images is None:
        shape = (batch, subject.size, subject.size, 3)
        if subject.input == "uint8":
            return np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return images[np.arange(batch) % len(images)]


def _notes(subject: Subject, latency: Latency, accuracy: Evaluated) -> tuple[str, ...]:
    """What a reader of the numbers must know."""
    found = []
    if subject.emulated:
        types = ", ".join(subject.emulated)
        found.append(f"{types} is emulated by {subject.backend}: the accuracy is the type's, the latency is not")
    if accuracy.predictions.constant:
        found.append(CONSTANT)
    if not latency.steady:
        found.append("the warm-up reached its time limit before the steady state, where latencies agree within 2 %")
    return (*found, *(latency.load.remarks if latency.load else ()))
