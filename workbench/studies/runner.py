"""The work of a study: build an engine for each variant and host, measure its cells, and write the ledger.

The runner is handed a frozen request and the cells to measure. Engines on this machine's CPU are measured in this
process; those of other hosts are jobs for ``remote.dispatch``, whose reports are written down here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..backends import build_engine, changed_file, open_engine
from ..backends.base import Session
from ..backends.hardware.cpu import environment
from ..backends.hardware.load import watched
from ..digests import digest
from ..errors import Cancelled, Refusal, WorkbenchError
from ..measuring import Subject
from ..measuring.accuracy import Evaluated, Predictions
from ..measuring.input_notes import input_notes
from ..measuring.measurement import measurement_of, one_batch
from ..measuring.timing import Feeds, Latency, interleaved_rounds, joined
from ..performance.fusion import attention_fused
from ..progress import Meter, Progress, part
from ..records import Engine, Measurement, Recipe, Variant
from ..remote.dispatch import Outcome, check_workers, send, spread
from ..remote.host import Host
from ..remote.job import EvaluationSet, Job
from ..workspace import Workspace
from . import expectation
from .plan import REFUSAL, Cell, EngineCells, is_measured, newest_measurement
from .predictions import BATCH, predictions_of
from .request import Request
from .round_store import RoundStore
from .summaries import MEASUREMENT, executions

#: The kind of observation of an engine of a study in the ledger.
ENGINE = "study engine"
#: What every drop and agreement is measured against.
REFERENCE = Host("onnxruntime", "onnxruntime")
REFERENCE_LABEL = "fp32 on onnxruntime"


@dataclass(frozen=True)
class Ready:
    """An engine that was built and has classified the images; its cells are still to be timed.

    ``predictions`` are by batch size: with dynamic quantization an image's logits depend on its batch.
    """

    group: EngineCells
    engine: Engine
    predictions: Mapping[int, Predictions]


class Runner:
    """One run of a study. ``attempt`` is empty, or a run id that keeps everything earlier from being reused."""

    def __init__(self, request: Request, workspace: Workspace, meter: Meter, attempt: str):
        self.request, self.workspace, self.meter, self.attempt = request, workspace, meter, attempt
        self.about_images: tuple[str, ...] = ()
        self.reference = self._reference()

    def _reference(self) -> Predictions:
        """FP32's predictions; labels that number the classes in another order are refused here."""
        from ..graphs.analysis.selftest import check_order
        from ..graphs.quantization.recipe import apply_recipe

        progress, labels = self.meter.step("FP32 reference", expectation.ENGINE), self.request.labels
        variant = apply_recipe(self.request.graph, Recipe(), self.workspace, progress=progress)
        engine = self._engine(variant, REFERENCE, progress)
        found = self._predictions(engine, REFERENCE, progress)
        with open_engine(engine) as session:
            self.about_images = input_notes(session, Subject.of(engine), self.request.images)
        classes = 1 + int(max(found.classes.max(), labels.max()))
        check_order("the labels", labels, found.classes, classes)
        return found

    @functools.cached_property
    def _executions(self) -> dict[str, str]:
        """What the ledger held of all cells when this run began."""
        return executions(self.workspace)

    def _check_evidence(self, classes: Sequence[int] | np.ndarray) -> None:
        """Refuse an engine whose accuracy lies far above that of its own FP32 model."""
        from ..graphs.analysis.engine_evidence import check_not_far_above

        check_not_far_above(np.asarray(classes), self.reference.classes, self.request.labels)

    def _unmeasured(self, group: EngineCells) -> EngineCells | None:
        """The group with those cells that the ledger does not hold yet; None when it holds all."""
        known = {} if self.attempt else self._executions
        cells = [cell for cell in group.cells if not is_measured(group.host, known.get(cell.key))]
        return dataclasses.replace(group, cells=tuple(cells)) if cells else None

    # ---- engines of one backend in this process, interleaved ---------------------------------------------------

    def measure_here(self, host: Host, groups: Sequence[EngineCells]) -> None:
        """Measure engines of one backend in this process."""
        todo = [left for group in groups if (left := self._unmeasured(group))]
        self._skip_the_rest(host, todo)
        ready = [one for group in todo if (one := self._ready(group))]
        for batch in self.request.batches:
            now = [(one, cell) for one in ready if (cell := one.group.at(batch))]
            if now:
                self._time(now, batch, self.meter.step(f"batch {batch}", expectation.TIMING, len(now)))

    def _skip_the_rest(self, host: Host, todo: Sequence[EngineCells]) -> None:
        """Tell the meter that the other engines and cells of a backend need no time: refused or measured before."""
        request = self.request
        self.meter.skip(expectation.ENGINE, expectation.engines_weight(request, host) - sum(map(_weight, todo)))
        cells = len(request.recipes) * len(request.batches) - sum(len(group.cells) for group in todo)
        self.meter.skip(expectation.TIMING, cells)

    def _ready(self, left: EngineCells) -> Ready | None:
        """Build an engine and classify the images with it; None where that is refused."""
        progress, engine = self.meter.step(left.label, expectation.ENGINE, _weight(left)), None
        try:
            engine = self._engine(left.variant, left.host, progress)
            found = self._predictions_by_batch(engine, left, progress)
            for each in found.values():
                self._check_evidence(each.classes)
            return Ready(left, engine, found)
        except Cancelled:
            raise
        except WorkbenchError as error:
            self._refused(left, error.refusal, engine)
            self.meter.skip(expectation.TIMING, len(left.cells))
            return None

    def _engine(self, variant: Variant, host: Host, progress: Progress) -> Engine:
        """The engine of an earlier run with the same inputs, or a new build."""
        batches, options = self.request.engine_batches, self.request.options.get(host.name)
        key = digest(variant.digest, self.request.host_key(host), batches, self.attempt)
        for engine in reversed(self.workspace.observations(ENGINE, Engine, key)):
            if changed_file(engine) is None:
                return engine
        engine = build_engine(
            variant,
            host.backend,
            self.workspace,
            batches=batches,
            card=host.card,
            options=dict(options) if options else None,
            progress=progress,
        )
        self.workspace.append(ENGINE, key, engine)
        return engine

    def _predictions(self, engine: Engine, host: Host, progress: Progress, batch: int = BATCH) -> Predictions:
        request = self.request
        inputs = [request.images_digest, request.host_key(host), self.attempt]
        return predictions_of(engine, request.images, request.labels, self.workspace, inputs, progress, batch)

    def _predictions_by_batch(
        self, engine: Engine, group: EngineCells, progress: Progress
    ) -> dict[int, Predictions]:
        """Computed once, but with dynamic quantization once for each batch."""
        batches, several = [cell.batch for cell in group.cells], engine.variant.recipe.depends_on_batch
        parts = [part(progress, i, len(batches)) if several else progress for i in range(len(batches))]
        return {batch: self._predictions(engine, group.host, each, batch) for batch, each in zip(batches, parts)}

    def _time(self, ready: Sequence[tuple[Ready, Cell]], batch: int, progress: Progress) -> None:
        """Time engines at one batch size in interleaved rounds, and write a measurement for each."""
        timed = {digest(cell.key, self.attempt): (one, cell) for one, cell in ready}
        latencies = self._take_rounds({key: one.engine for key, (one, _) in timed.items()}, batch, progress)
        for key, (latency, memory) in latencies.items():
            one, cell = timed[key]
            evaluated = Evaluated(
                one.predictions[batch], self.request.labels, self.reference.classes, REFERENCE_LABEL
            )
            found = self._record(one.engine, batch, latency, memory, evaluated)
            self.workspace.append(MEASUREMENT, cell.key, found)

    def _take_rounds(
        self, engines: Mapping[str, Engine], batch: int, progress: Progress
    ) -> dict[str, tuple[Latency, int]]:
        """Interleaved rounds, which are stored while they are taken, and what else the machine did meanwhile.

        Returns:
            Key -> all calls, with the load beside those of this run, and the session's peak memory in bytes.
        """
        with contextlib.ExitStack() as stack:
            store = stack.enter_context(RoundStore(self.workspace, engines))

            def open_session(key: str) -> tuple[Session, Feeds]:
                subject = Subject.of(engines[key])
                session = stack.enter_context(open_engine(engines[key]))
                return session, subject.feeds(one_batch(subject, self.request.images, batch))

            taken, seconds = {key: tuple(rounds) for key, rounds in store.rounds.items()}, self.request.seconds
            with watched() as watch:
                for key, one in interleaved_rounds(taken, open_session, seconds=seconds, progress=progress):
                    store.add(key, one)
        name = digest(sorted(engines))  # compare() pairs measurements that were interleaved
        return {
            key: (
                dataclasses.replace(joined(rounds, name), load=watch.load),
                max(each.memory_bytes for each in rounds),
            )
            for key, rounds in store.rounds.items()
        }

    def _record(
        self, engine: Engine, batch: int, latency: Latency, memory_bytes=0, evaluated: Evaluated | None = None
    ) -> Measurement:
        found = measurement_of(
            Subject.of(engine),
            batch,
            latency,
            memory_bytes,
            {**engine.environment, **environment()},
            evaluated,
            dataset=self.request.dataset,
            run_id=engine.run_id,
        )
        fused, notes = attention_fused(engine), (*engine.variant.notes, *found.notes)
        notes = (*notes, *self.about_images) if evaluated else notes
        return dataclasses.replace(found, attention_fused=fused, notes=notes)

    # ---- jobs on other hosts -----------------------------------------------------------------------------------

    def measure_elsewhere(self, groups: Sequence[EngineCells]) -> None:
        """Run a job for each engine on its host, one after the other."""
        todo = [left for group in groups if (left := self._unmeasured(group))]
        self.meter.skip(expectation.JOB, len(self.request.recipes) - len(todo))
        for left in todo:
            progress = self.meter.step(left.label, expectation.JOB)
            outcome = send(left.host, self._job(left), self.workspace, self._evaluation_set, progress)
            self._finished(left, outcome)

    def measure_on_cluster(self, groups: Sequence[EngineCells], client) -> None:
        """Run a job for each engine on a Dask cluster, see ``remote.dispatch.spread``."""
        waiting = [left for group in groups if (left := self._unmeasured(group))]
        jobs = [(left.host, self._job(left)) for left in waiting]
        check_workers(client, {host.name for host, _ in jobs})
        for kind in (expectation.ENGINE, expectation.TIMING):  # the cluster does these as jobs
            self.meter.skip(kind, math.inf)
        progress = self.meter.step("cluster", expectation.JOB, len(jobs))
        for number, outcome in spread(jobs, self.workspace, self._evaluation_set, client, progress):
            self._finished(waiting[number], outcome)

    @property
    def _evaluation_set(self) -> EvaluationSet:
        return EvaluationSet(self.request.images, self.request.labels, self.reference.classes)

    def _job(self, group: EngineCells) -> Job:
        host, request = group.host, self.request
        return Job(
            variant=group.variant,
            backend=host.backend,
            batches=request.engine_batches,
            measure=tuple(cell.batch for cell in group.cells),
            card=host.card,
            options=dict(request.options.get(host.name) or {}),
            seconds=request.seconds,
            dataset=request.dataset,
        )

    def _finished(self, group: EngineCells, outcome: Outcome) -> None:
        """Write down what a job reports, or why it could not be done."""
        if isinstance(outcome, Refusal):
            self._refused(group, outcome)
            return
        engine = outcome.engine
        if outcome.refusal:
            self._refused(group, outcome.refusal, engine)
        try:
            for found in outcome.measurements:
                self._check_evidence(found.predictions)
        except WorkbenchError as error:
            self._refused(group, error.refusal, engine)
            return
        keys = {cell.batch: cell.key for cell in group.cells}
        for found in outcome.measurements:
            complete = dataclasses.replace(
                found,
                run_id=engine.run_id,
                reference=REFERENCE_LABEL,
                attention_fused=attention_fused(engine),
                notes=(*engine.variant.notes, *found.notes),
            )
            self.workspace.append(MEASUREMENT, keys[found.batch], complete)

    def _refused(self, group: EngineCells, refusal: Refusal, engine: Engine | None = None) -> None:
        """Write down why cells could not be measured, and the engine where one was built."""
        for cell in group.cells:
            self.workspace.append(REFUSAL, cell.key, refusal)
            if engine and not newest_measurement(self.workspace, cell.key):
                built = dataclasses.replace(
                    self._record(engine, cell.batch, Latency()), execution="built", notes=engine.variant.notes
                )
                self.workspace.append(MEASUREMENT, cell.key, built)


def _weight(group: EngineCells) -> int:
    """The weight of a step with this engine."""
    return expectation.engine_weight(group.variant.recipe, group.host, len(group.cells))
