"""The work of a study in this process: build an engine per job, let it answer, time it, and write the ledger."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..backends import build_engine, changed_file, open_engine
from ..backends.base import Session
from ..backends.hardware.cpu import environment
from ..digests import digest
from ..errors import Cancelled, Refusal, WorkbenchError
from ..measuring import Subject
from ..measuring.accuracy import Evaluated, Predictions
from ..measuring.measurement import measurement_of, one_batch
from ..measuring.timing import Feeds, Latency, Round, interleaved_rounds, joined
from ..performance.fusion import attention_fused
from ..progress import Meter, Progress
from ..records import Batches, Engine, Measurement, Recipe, Variant
from ..remote.host import Host
from .answers import answers
from .plan import MEASUREMENT, REFUSAL, Cell, newest_measurement

if TYPE_CHECKING:
    from .study import Study

#: Kinds of observations in the ledger: an engine of a study, and a round of timed calls.
ENGINE, ROUND = "study engine", "interleaved round"
#: What every drop and agreement is measured against.
REFERENCE = Host("onnxruntime", "onnxruntime")
REFERENCE_LABEL = "fp32 on onnxruntime"


@dataclass(frozen=True)
class Job:
    """All cells of one study that share an engine."""

    variant: Variant
    host: Host
    cells: tuple[Cell, ...]

    @property
    def label(self) -> str:
        """Recipe, host and card in one line."""
        return " ".join(filter(None, (self.variant.recipe.label, "on", self.host.name, self.host.card)))


@dataclass(frozen=True)
class Ready:
    """A job whose engine stands and has answered the images; its cells are those that are still to be timed."""

    job: Job
    engine: Engine
    answers: Predictions

    def cell_at(self, batch: int) -> Cell | None:
        """The cell of this batch size, where it is still to be timed."""
        return next((cell for cell in self.job.cells if cell.batch == batch), None)


class Runner:
    """One run of a study. ``attempt`` is empty, or a run id that keeps everything earlier from being reused."""

    def __init__(self, study: Study, meter: Meter, attempt: str):
        self.study, self.workspace, self.meter, self.attempt = study, study.workspace, meter, attempt
        self.reference = self._reference()

    def _reference(self) -> Predictions:
        """What FP32 answers; labels that count its classes in another order are refused before any comparison."""
        from ..graphs.analysis.selftest import check_order
        from ..graphs.quantization.recipe import apply_recipe

        progress = self.meter.step("FP32 reference")
        variant = apply_recipe(self.study.graph, Recipe(), self.workspace, progress=progress)
        found = self._answers(self._engine(Job(variant, REFERENCE, ()), progress), REFERENCE, progress)
        classes = 1 + int(max(found.classes.max(), self.study.labels.max()))
        check_order("the labels", self.study.labels, found.classes, classes)
        return found

    def unfinished(self, job: Job) -> Job | None:
        """The job with those cells that the ledger does not hold yet; None when it holds all."""
        cells = tuple(cell for cell in job.cells if self.attempt or not self._finished(job.host, cell))
        return dataclasses.replace(job, cells=cells) if cells else None

    def _finished(self, host: Host, cell: Cell) -> bool:
        """An engine that could only be built is tried again, except where it would be built again for that."""
        found = newest_measurement(self.workspace, cell.key)
        tried = host.command is None and host.interpreter is not None
        return found is not None and (found.execution != "built" or tried)

    # ---- engines of one backend in this process, interleaved -----------------------------------------------------

    def measure_here(self, jobs: list[Job]) -> None:
        """Measure jobs of one backend in this process."""
        ready = [one for job in jobs if (one := self._ready(job, self.meter.step(job.label)))]
        for batch in self.study.batches:
            now = [one for one in ready if one.cell_at(batch)]
            progress = self.meter.step(f"batch {batch}", max(len(now), 1))
            if now:
                self._time(now, batch, progress)

    def _ready(self, job: Job, progress) -> Ready | None:
        engine = None
        if (job := self.unfinished(job)) is None:
            return None
        try:
            engine = self._engine(job, progress)
            return Ready(job, engine, self._answers(engine, job.host, progress))
        except Cancelled:
            raise
        except WorkbenchError as error:
            self.refused(job, error.refusal, engine)
            return None

    def _engine(self, job: Job, progress) -> Engine:
        """The engine of an earlier run with the same inputs, or a new build."""
        key = digest(job.variant.digest, self.study.host_key(job.host), self.batches, self.attempt)
        for engine in reversed(self.workspace.observations(ENGINE, Engine, key)):
            if changed_file(engine) is None:
                return engine
        engine = build_engine(
            job.variant,
            job.host.backend,
            self.workspace,
            batches=self.batches,
            card=job.host.card,
            options=self.study.options.get(job.host.name),
            progress=progress,
        )
        self.workspace.append(ENGINE, key, engine)
        return engine

    @property
    def batches(self) -> Batches:
        """One engine for all batch sizes of the study, tuned for the largest."""
        if static := self.study.graph.batch:
            return Batches(static, static, static)
        return Batches(self.study.batches[0], self.study.batches[-1], self.study.batches[-1])

    def _answers(self, engine: Engine, host: Host, progress) -> Predictions:
        study = self.study
        inputs = [study.images_digest, study.host_key(host), self.attempt]
        return answers(engine, study.images, study.labels, self.workspace, inputs, progress)

    def _time(self, ready: list[Ready], batch: int, progress: Progress) -> None:
        """Time engines at one batch size in interleaved rounds, each of which is stored as soon as it is taken."""
        timed = {digest(one.cell_at(batch).key, self.attempt): one for one in ready}
        rounds = {key: self.workspace.observations(ROUND, Round, key) for key in timed}
        taken = {key: len(of_key) for key, of_key in rounds.items()}
        with contextlib.ExitStack() as stack:

            def open_session(key: str) -> tuple[Session, Feeds]:
                engine = timed[key].engine
                subject = Subject.of(engine)
                session = stack.enter_context(open_engine(engine))
                return session, subject.feeds(one_batch(subject, self.study.images, batch))

            seconds = self.study.seconds
            for key, one in interleaved_rounds(taken, open_session, seconds=seconds, progress=progress):
                self.workspace.append(ROUND, key, one)
                rounds[key].append(one)
        name = digest(sorted(timed))  # compare() pairs measurements that were interleaved
        for key, one in timed.items():
            self.workspace.append(
                MEASUREMENT, one.cell_at(batch).key, self._measured(one, batch, rounds[key], name)
            )

    def _measured(self, one: Ready, batch: int, rounds: list[Round], interleaved: str) -> Measurement:
        study, reference = self.study, self.reference.classes
        evaluated = Evaluated(one.answers, study.labels, reference, REFERENCE_LABEL)
        memory = max(each.memory_bytes for each in rounds)
        return self._record(one.engine, batch, joined(rounds, interleaved), memory, evaluated)

    def _record(
        self,
        engine: Engine,
        batch: int,
        latency: Latency,
        memory_bytes: int = 0,
        evaluated: Evaluated | None = None,
    ) -> Measurement:
        facts = {**engine.environment, **environment()}
        found = measurement_of(
            Subject.of(engine),
            batch,
            latency,
            memory_bytes,
            facts,
            evaluated,
            dataset=self.study.dataset,
            run_id=engine.run_id,
        )
        fused, notes = attention_fused(engine), (*engine.variant.notes, *found.notes)
        return dataclasses.replace(found, attention_fused=fused, notes=notes)

    # ---- what the ledger is told -------------------------------------------------------------------------------

    def refused(self, job: Job, refusal: Refusal, engine: Engine | None = None) -> None:
        """Write down why a job could not be done, and the engine where one was built all the same."""
        for cell in job.cells:
            self.workspace.append(REFUSAL, cell.key, refusal)
            if engine and not newest_measurement(self.workspace, cell.key):
                self.workspace.append(MEASUREMENT, cell.key, self._built(engine, cell.batch))

    def arrived(self, job: Job, engine: Engine, measurements: tuple[Measurement, ...]) -> None:
        """Write down what a host measured."""
        of_batch = {cell.batch: cell for cell in job.cells}
        for m in measurements:
            told = dataclasses.replace(
                m,
                run_id=engine.run_id,
                reference=REFERENCE_LABEL,
                attention_fused=attention_fused(engine),
                notes=(*engine.variant.notes, *m.notes),
            )
            self.workspace.append(MEASUREMENT, of_batch[m.batch].key, told)

    def _built(self, engine: Engine, batch: int) -> Measurement:
        """What is known of an engine that was built and not run."""
        known = self._record(engine, batch, Latency())
        return dataclasses.replace(known, execution="built", notes=engine.variant.notes)
