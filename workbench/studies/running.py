"""The work of a study: build an engine per job, let it answer the images, time it, and write the ledger."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..backends import build_engine
from ..backends.machine import environment
from ..errors import Cancelled, WorkbenchError
from ..measuring import Subject
from ..measuring.accuracy import Predictions
from ..measuring.measurement import notes
from ..records import Batches, Engine, Measurement, Recipe, Variant
from ..workspace import digest
from .answers import answers
from .cells import MEASUREMENT, OBSTACLE, Cell, Obstacle, newest_measurement
from .meter import Meter
from .rounds import Round, joined, time_in_rounds

if TYPE_CHECKING:
    from .study import Study

REFERENCE, ENGINE = "onnxruntime", "study engine"


@dataclass(frozen=True)
class Job:
    """All cells of one study that share an engine."""

    variant: Variant
    backend: str
    card: str | None
    cells: tuple[Cell, ...]

    @property
    def label(self) -> str:
        """Recipe, backend and card in one line."""
        return " ".join(filter(None, (self.variant.recipe.label, "on", self.backend, self.card)))


@dataclass(frozen=True)
class Ready:
    """A job whose engine stands and has answered the images; ``cells`` are those that are still to be timed."""

    job: Job
    engine: Engine
    answers: Predictions
    cells: tuple[Cell, ...]

    def cell_at(self, batch: int) -> Cell | None:
        """The cell of this batch size, where it is still to be timed."""
        return next((cell for cell in self.cells if cell.batch == batch), None)


class Runner:
    """One run of a study. ``attempt`` is empty, or a run id that keeps everything earlier from being reused."""

    def __init__(self, study: Study, meter: Meter, attempt: str):
        self.study, self.workspace, self.meter, self.attempt = study, study.workspace, meter, attempt
        self.reference = self._reference()

    def measure(self, jobs: list[Job]) -> None:
        """Measure what is missing of jobs on one backend."""
        ready = [one for job in jobs if (one := self._ready(job))]
        for batch in self.study.batches:
            now = [one for one in ready if one.cell_at(batch)]
            progress = self.meter.step(f"batch {batch}", max(len(now), 1))
            self._time(now, batch, progress)

    def _reference(self) -> Predictions:
        """The answers of FP32 on ONNX Runtime, which every drop and agreement is measured against."""
        from ..graphs.recipes import apply_recipe

        progress = self.meter.step("FP32 reference")
        variant = apply_recipe(self.study.graph, Recipe(), self.workspace, progress=progress)
        job = Job(variant, REFERENCE, None, ())
        return self._answers(self._engine(job, progress), progress)

    def _ready(self, job: Job) -> Ready | None:
        progress = self.meter.step(job.label)
        missing = tuple(cell for cell in job.cells if self.attempt or not self._finished(cell))
        engine = None
        if not missing:
            return None
        try:
            engine = self._engine(job, progress)
            return Ready(job, engine, self._answers(engine, progress), missing)
        except Cancelled:
            raise
        except WorkbenchError as error:
            self._hindered(missing, engine, Obstacle(f"{error.what}: {error.why}", error.remedy))
            return None

    def _finished(self, cell: Cell) -> bool:
        """One that could only be built is tried again: opening it costs little, and a GPU may be there now."""
        found = newest_measurement(self.workspace, cell.key)
        return found is not None and found.execution != "built"

    def _hindered(self, cells: tuple[Cell, ...], engine: Engine | None, obstacle: Obstacle) -> None:
        """Write down what stood in the way, and the engine where one was built all the same."""
        for cell in cells:
            self.workspace.append(OBSTACLE, cell.key, obstacle)
            if engine and not newest_measurement(self.workspace, cell.key):
                self.workspace.append(MEASUREMENT, cell.key, self._built(engine, cell.batch))

    def _engine(self, job: Job, progress) -> Engine:
        """The engine of an earlier run with the same inputs, or a new build."""
        study = self.study
        batches = self._batches()
        key = digest(job.variant.digest, study.runtime_key(job.backend), batches, self.attempt)
        for engine in reversed(self.workspace.observations(ENGINE, Engine, key)):
            if engine.path.exists():
                return engine
        options = study.options.get(job.backend)
        engine = build_engine(
            job.variant,
            job.backend,
            self.workspace,
            batches=batches,
            card=job.card,
            options=options,
            progress=progress,
        )
        self.workspace.append(ENGINE, key, engine)
        return engine

    def _batches(self) -> Batches:
        """One engine for all batch sizes of the study, tuned for the largest."""
        if static := self.study.graph.batch:
            return Batches(static, static, static)
        return Batches(self.study.batches[0], self.study.batches[-1], self.study.batches[-1])

    def _answers(self, engine: Engine, progress) -> Predictions:
        study = self.study
        inputs = [study.images_digest, study.runtime_key(engine.backend), self.attempt]
        return answers(engine, study.images, study.labels, self.workspace, inputs, progress)

    def _time(self, ready: list[Ready], batch: int, progress) -> None:
        if not ready:
            return
        keys = {digest(one.cell_at(batch).key, self.attempt): one for one in ready}
        engines = {key: one.engine for key, one in keys.items()}
        taken = time_in_rounds(engines, self.study.images, batch, self.study.seconds, self.workspace, progress)
        for key, one in keys.items():
            measurement = self._measured(one, batch, taken[key])
            self.workspace.append(MEASUREMENT, one.cell_at(batch).key, measurement)

    def _measured(self, one: Ready, batch: int, rounds: list[Round]) -> Measurement:
        subject, latency = Subject.of(one.engine), joined(rounds)
        return dataclasses.replace(
            self._built(one.engine, batch),
            latencies_s=latency.seconds,
            device_s=latency.device_seconds,
            warmup_calls=latency.warmup_calls,
            predictions=tuple(one.answers.classes.tolist()),
            labels=tuple(self.study.labels.tolist()),
            reference_predictions=tuple(self.reference.classes.tolist()),
            top5_hits=one.answers.top5_hits,
            reference="fp32 on onnxruntime",
            memory_bytes=max(one.memory_bytes for one in rounds),
            execution="emulated" if subject.emulated else "executed",
            notes=(*one.engine.variant.notes, *notes(subject, latency)),
        )

    def _built(self, engine: Engine, batch: int) -> Measurement:
        """What is known of an engine that was built and not run."""
        subject = Subject.of(engine)
        return Measurement(
            backend=engine.backend,
            model=subject.model,
            recipe=subject.recipe,
            batch=batch,
            variant=subject.variant,
            latencies_s=(),
            dataset=self.study.dataset,
            card=engine.card,
            engine_bytes=subject.engine_bytes,
            build_seconds=engine.build_seconds,
            execution="built",
            environment={**engine.environment, **environment()},
            run_id=engine.run_id,
            notes=engine.variant.notes,
        )
