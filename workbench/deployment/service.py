"""A deployed bundle: checked, warmed up, answering several threads, with the original behind the engine."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Generator
from concurrent.futures import Future, wait
from pathlib import Path

import numpy as np

from ..errors import WorkbenchError, path_of, refuse_unless
from ..records import whole
from .batching import BatchQueue, QueueFull, Request
from .classifier import Classifier, model_input, open_original, original_engine
from .drift import DriftMonitor
from .engine_process import EngineProcess
from .fallback import Fallback, GoldenCheck, Watch
from .golden import golden_error, golden_fault, read_golden
from .manifest import Manifest
from .metrics import ANSWERED, FAILED, REFUSED, Metrics
from .target import EngineUnbuilt, refuse_unbuilt
from .verify import file_faults, refuse_damage, trusted_manifest, untrusted_engine


def deploy(
    folder,
    *,
    trust: str | os.PathLike | None = None,
    streams: int = 1,
    batch: int | None = None,
    delay_s: float = 0.002,
    queue: int = 1024,
    watch: Watch | None = None,
) -> Deployment:
    """Check a bundle and serve it until the returned service is closed.

    What is checked, in this order: the trusted digest, every checksum, what the engine requires of this machine,
    and the golden logits of both models. When the engine fails one of them, the original serves. When the original
    does, nothing is served.

    Args:
        folder: what ``export_bundle`` wrote.
        trust: the ``bundle_digest``, or the file of the public key, that the sender gave by another way. None
            leaves malice unfound, and then an engine that can hold code, a plan of TensorRT, is not loaded: the
            original serves.
        streams: calls of the engine that run at the same time.
        batch: images that are computed together; None is the batch that the engine is tuned for.
        delay_s: seconds for which a request waits for others.
        queue: images that may wait; more are refused.
        watch: how the engine is watched.

    Raises:
        WorkbenchError: the bundle is not what was written, or its original model does not run here.
    """
    folder = path_of("A bundle", folder).expanduser().absolute()
    manifest = trusted_manifest(folder, trust)
    faults = file_faults(manifest, folder)
    of_engine = {name: fault for name, fault in faults.items() if name.startswith("engine/")}
    refuse_damage(folder, {name: fault for name, fault in faults.items() if name not in of_engine})
    most = manifest.engine.batches.max
    batch = manifest.engine.batches.opt if batch is None else batch
    _check_settings(streams, batch, most, delay_s, queue)
    queued = BatchQueue(batch, delay_s, max(queue, batch))
    refusal = "; ".join(of_engine.values()) or _unbuilt(manifest, folder) or untrusted_engine(manifest)
    return Deployment(manifest, folder, queued, streams, watch or Watch(), refusal)


def _unbuilt(manifest: Manifest, folder: Path) -> str:
    """Why an engine is not even started that was not built yet; empty for one that was."""
    try:
        refuse_unbuilt(manifest.engine, folder)
    except EngineUnbuilt as error:
        return f"{error.what}: {error.why}"
    return ""


def _check_settings(streams, batch, most: int, delay_s, queue) -> None:
    numbers = {"streams": streams, "batch": batch, "queue": queue}
    for name, value in numbers.items():
        refuse_unless(
            (whole(value) or 0) > 0,
            f"{name} must be a whole number of 1 or more",
            why=f"it is {value!r}",
            remedy="leave it out for the default",
        )
    refuse_unless(
        batch <= most,
        f"The engine does not take batches of {batch}",
        why=f"it was built for {most} images at most",
        remedy="give a smaller batch, or build the engine for larger ones",
    )
    refuse_unless(
        isinstance(delay_s, int | float) and 0 <= delay_s <= 60,
        "delay_s must be seconds from 0 to 60",
        why=f"it is {delay_s!r}",
        remedy="leave it out for 0.002",
    )


class Deployment:
    """A service made by ``deploy``. A context manager that ends the engine's process."""

    def __init__(
        self, manifest: Manifest, folder: Path, queue: BatchQueue, streams: int, watch: Watch, refusal: str
    ):
        engine, batches = manifest.engine, manifest.engine.batches
        self.manifest, self._queue = manifest, queue
        self._preprocessing = engine.variant.graph.preprocessing
        golden = read_golden(folder, self._preprocessing.size, manifest.classes)
        self._session = open_original(engine)
        self._original = Classifier(self._session, original_engine(engine))
        _check_original(self._original, manifest, golden)
        self._drift = DriftMonitor(manifest.reference)
        self._metrics = Metrics(self._drift)
        self._fallback = Fallback(
            functools.partial(EngineProcess, engine, manifest.classes, streams),
            self._original,
            GoldenCheck(
                *golden, manifest.golden.engine_tolerance, batches.opt, tuple(sorted({batches.min, batches.max}))
            ),
            watch=watch,
            streams=streams,
            refusal=refusal,
            on_fallback=self._metrics.fallbacks.inc,
        )
        self._metrics.watch(lambda: queue.images, lambda: self.active, lambda: self._fallback.pid)
        self._threads = [threading.Thread(target=self._serve, args=(i,), daemon=True) for i in range(streams)]
        for thread in self._threads:
            thread.start()

    @property
    def active(self) -> str:
        """``engine`` or ``original``: which model answers now."""
        return self._fallback.active

    @property
    def reason(self) -> str:
        """Why the original serves; empty while the engine does."""
        return self._fallback.reason

    @property
    def pid(self) -> int | None:
        """The number of the engine's process while the engine answers, else None."""
        return self._fallback.pid

    @property
    def queued(self) -> int:
        """How many images wait."""
        return self._queue.images

    def answered(self, model: str) -> int:
        """How many images ``engine`` or ``original`` has answered."""
        return self._metrics.answered(model)

    def metrics(self) -> dict[str, float]:
        """What ``/metrics`` shows, by name: ``metrics()['workbench_images_total{model="engine"}']``."""
        return self._metrics.values()

    def metrics_text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return self._metrics.text()

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits (N, classes) float32; several threads may call it, and their images are computed together.

        Args:
            images: normalised float32 (N, H, W, 3), or uint8 pixels of the model's size. More images than a batch
                are computed in parts.

        Raises:
            QueueFull: too many images wait already.
            WorkbenchError: the images do not fit the model; the service was closed; or the original failed too.
        """
        with self.counted():
            answers: list[Future] = []
            for part in self._parts(images):
                while (answer := self._put(part, answers)) is None:
                    wait([next(each for each in answers if not each.done())])
                answers.append(answer)
            return np.concatenate([answer.result() for answer in answers])

    def submit(self, images: np.ndarray) -> list[Future]:
        """Like ``predict``, without waiting: the logits of each part of the images, as futures.

        Raises:
            QueueFull: the images do not all fit into the queue.
            WorkbenchError: as ``predict``.
        """
        answers: list[Future] = []
        try:
            for part in self._parts(images):
                request = Request(part)
                self._queue.put(request)
                answers.append(request.answer)
        except WorkbenchError:
            for answer in answers:
                answer.cancel()
            raise
        return answers

    def close(self) -> None:
        """Answer what waits, then end the engine's process; calling it again does nothing."""
        self._queue.close()
        for thread in self._threads:
            thread.join()
        self._fallback.close()
        self._session.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _parts(self, images) -> list[np.ndarray]:
        x, step = model_input(images, self._preprocessing), self._queue.batch
        return [x[start : start + step] for start in range(0, len(x), step)]

    def _put(self, part: np.ndarray, earlier: list[Future]) -> Future | None:
        """Queue a part; None when the queue is full, but earlier parts of the same call will make room."""
        request = Request(part)
        try:
            self._queue.put(request)
        except QueueFull:
            if all(answer.done() for answer in earlier):
                raise
            return None
        return request.answer

    @contextlib.contextmanager
    def counted(self) -> Generator[None]:
        """Count a request by its outcome, and time it when it is answered."""
        begin = time.perf_counter()
        try:
            yield
        except QueueFull:
            self._metrics.requests.labels(REFUSED).inc()
            raise
        except BaseException:
            self._metrics.requests.labels(FAILED).inc()
            raise
        self._metrics.requests.labels(ANSWERED).inc()
        self._metrics.latency.observe(time.perf_counter() - begin)

    def _serve(self, stream: int) -> None:
        """Answer batches on one of the engine's streams until the queue is closed and empty."""
        while taken := self._queue.take():
            requests = [request for request in taken if request.answer.set_running_or_notify_cancel()]
            if not requests:
                continue
            try:
                self._answer(stream, requests)
            except BaseException as error:  # whoever waits must hear of it, and the thread must go on
                for request in requests:
                    if not request.answer.done():
                        request.answer.set_exception(error)

    def _answer(self, stream: int, requests: list[Request]) -> None:
        images = np.concatenate([request.images for request in requests])
        logits, model = self._fallback.logits(stream, images)
        self._metrics.batch.observe(len(images))
        self._metrics.images.labels(model).inc(len(images))
        self._drift.add(images, logits)
        begin = 0
        for request in requests:
            request.answer.set_result(logits[begin : begin + len(request.images)])
            begin += len(request.images)


def _check_original(original: Classifier, manifest: Manifest, golden: tuple[np.ndarray, np.ndarray]) -> None:
    error = golden_error(original, *golden, original.batches.opt)
    fault = golden_fault("the original model", error, manifest.golden.original_tolerance)
    refuse_unless(
        not fault,
        f"{manifest.name} cannot be served here",
        why=fault,
        remedy="try another version of ONNX Runtime; without the original there is nothing to fall back to",
    )
