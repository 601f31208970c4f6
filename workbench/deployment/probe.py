"""What a bundle would do on this machine: which of its models run here, compute the golden logits, and how fast.

It needs NumPy and a runtime, so that a host without the packages of a service can be asked too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..backends import backend
from ..backends.hardware.cpu import environment
from ..digests import file_digest
from ..errors import WorkbenchError
from ..records import quantile
from .classifier import Classifier, open_original, original_engine
from .engine_process import EngineProcess
from .fallback import ENGINE, FIRST_CALLS_S, ORIGINAL
from .golden import golden_error, golden_fault, read_golden
from .manifest import MANIFEST, Manifest
from .target import refuse_unbuilt
from .verify import read_bundle, untrusted_engine

#: Calls of each model that are timed, after as many that warm it up.
CALLS = 10


@dataclass(frozen=True)
class Probe:
    """What was found.

    Attributes:
        version: the digest of the bundle that was probed there.
        engine: why the engine would not answer there; empty when it would.
        original: the same for the original model.
        engine_ms: median time of a call at the batch that the engine is tuned for, None where it does not run.
        original_ms: likewise.
        batch: images of such a call.
        environment: machine and runtime.
        kept: the folder that the bundle was put into, empty when it was only probed.
    """

    version: str
    engine: str
    original: str
    engine_ms: float | None = None
    original_ms: float | None = None
    batch: int = 1
    environment: Mapping = field(default_factory=dict)
    kept: str = ""

    @property
    def active(self) -> str:
        """Which model would answer: ``engine``, ``original``, or nothing, which is empty."""
        if self.original:
            return ""
        return ORIGINAL if self.engine else ENGINE


def probe_bundle(folder: Path, trust: str | None = None) -> Probe:
    """Check a bundle's files, then run both of its models on the golden images, if ``verify`` lets them run.

    Raises:
        WorkbenchError: the bundle is damaged, or not the trusted one; no model was loaded.
    """
    manifest = read_bundle(folder, trust)
    golden = read_golden(folder, manifest.engine.variant.graph.preprocessing.size, manifest.classes)
    engine, engine_ms = _tried(lambda: _run_engine(manifest, folder, golden))
    original, original_ms = _tried(lambda: _run_original(manifest, golden))
    batch = manifest.engine.batches.opt
    facts = environment() | {"runtime": backend(manifest.engine.backend).name}
    return Probe(file_digest(folder / MANIFEST), engine, original, engine_ms, original_ms, batch, facts)


def _tried(run: Callable[[], tuple[str, float]]) -> tuple[str, float | None]:
    try:
        return run()
    except WorkbenchError as error:
        return f"{error.what}: {error.why}", None


def _run_engine(manifest: Manifest, folder: Path, golden: tuple[np.ndarray, np.ndarray]) -> tuple[str, float]:
    engine = manifest.engine
    refuse_unbuilt(engine, folder)
    if fault := untrusted_engine(manifest):
        raise WorkbenchError("The engine was not run", why=fault, remedy="say whom you trust")
    with EngineProcess(engine, manifest.classes) as process:
        return _fault_and_time(
            "the engine",
            lambda images: process.run(0, images, FIRST_CALLS_S),
            golden,
            engine.batches.opt,
            manifest.golden.engine_tolerance,
        )


def _run_original(manifest: Manifest, golden: tuple[np.ndarray, np.ndarray]) -> tuple[str, float]:
    if refusal := backend("onnxruntime").missing():
        raise refusal.error("The original model cannot run here")
    reference = original_engine(manifest.engine)
    with open_original(manifest.engine) as session:
        run = Classifier(session, reference)
        tolerance = manifest.golden.original_tolerance
        return _fault_and_time("the original model", run, golden, reference.batches.opt, tolerance)


def _fault_and_time(what: str, run: Callable, golden, batch: int, tolerance: float) -> tuple[str, float]:
    images, logits = golden
    fault = golden_fault(what, golden_error(run, images, logits, batch), tolerance)
    call = np.resize(images, (batch, *images.shape[1:]))
    times = []
    for _ in range(2 * CALLS):
        begin = time.perf_counter()
        run(call)
        times.append(time.perf_counter() - begin)
    return fault, 1e3 * quantile(times[CALLS:], 0.5)
