"""What an engine on a GPU must do, as plain functions: pytest runs them where it is at hand, and
``benchmarks/gpu_host.py`` where only NumPy and the runtime are."""

from __future__ import annotations

from statistics import median

import numpy as np

from workbench.backends import open_engine, open_streams
from workbench.backends.hardware.gpu import device
from workbench.backends.hardware.kernel_trace import tracer_missing, tracer_name
from workbench.backends.hardware.kernels import MULTIPLIED
from workbench.errors import WorkbenchError
from workbench.records import Engine

#: Memory that the driver may keep back between two cycles without it being a leak.
SLACK_BYTES = 4 << 20


def contract(engine: Engine, images: np.ndarray, logits: np.ndarray, tolerance: float) -> dict:
    """Answers, batches, streams, refusals and clocks of one engine.

    Args:
        engine: built for batches of 1 to ``len(images)`` at least.
        images: (N, H, W, 3) float32.
        logits: what FP32 on another runtime answers, (N, classes).
        tolerance: the error of a logit allowed, as a share of the largest logit.
    """
    errors = {}
    with open_engine(engine) as session:
        for batch in (1, engine.batches.opt, engine.batches.max, 1):
            part = images[np.arange(batch) % len(images)]
            answer = session.run({"images": part})["logits"]
            expected = logits[np.arange(batch) % len(images)]
            assert answer.shape == expected.shape
            assert answer.dtype == np.float32
            errors[batch] = float(np.abs(answer - expected).max() / np.abs(expected).max())
        sizes = (engine.batches.max, 1, engine.batches.opt, 1)
        for batch in (*sizes, *sizes, 1, 1, engine.batches.max):  # as a service's batches change, back and forth
            places = np.arange(batch) % len(images)
            found = session.run({"images": images[places]})["logits"]
            error = float(np.abs(found - logits[places]).max() / np.abs(logits[places]).max())
            errors[batch] = max(errors[batch], error)
        answer = session.run({"images": part})["logits"]
        repeated = session.run({"images": part})["logits"]
        assert np.array_equal(answer, repeated), "the CUDA graph answers something else than the first call"
        batches = [{"images": images[step : step + 1]} for step in range(6)]
        flying = [outputs["logits"] for outputs in session.run_all(batches)]
        alone = [session.run(feeds)["logits"] for feeds in batches]
        assert np.array_equal(flying, alone), "batches in flight are answered otherwise than one by one"
        for wrong in (part[:, :-1], part.astype(np.float64), np.repeat(images[:1], engine.batches.max + 1, axis=0)):
            assert _refused(lambda wrong=wrong: session.run({"images": wrong}))
        wall, compute = session.time({"images": part}, 50), session.device_time({"images": part}, 50)
        assert len(wall) == len(compute) == 50
        assert 0 < median(compute) < median(wall)
        memory = session.memory()
        assert memory > engine.path.stat().st_size / 4
    assert _refused(lambda: session.run({"images": part}))
    assert max(errors.values()) < tolerance, errors
    return {"relative logit error": errors, "cuda_graph": session.environment["cuda_graph"], "memory_bytes": memory}


def _refused(call) -> bool:
    try:
        call()
    except WorkbenchError:
        return True
    return False


def sharing(engine: Engine, images: np.ndarray) -> dict:
    """Streams answer alike, share the weights, and close with the first."""
    feeds, gpu = {"images": images[:1]}, device()
    with gpu.active():
        before = gpu.free_bytes()
    sessions = open_streams(engine, 4)
    answers = [session.run(feeds)["logits"] for session in sessions]
    with gpu.active():
        taken = before - gpu.free_bytes()
    sessions[0].close()
    assert all(np.array_equal(answers[0], answer) for answer in answers[1:])
    assert _refused(lambda: sessions[3].run(feeds))
    return {"memory of 4 streams": taken, "engine": engine.path.stat().st_size}


def leak(engine: Engine, images: np.ndarray, cycles: int = 30) -> dict:
    """Free memory of the device after every open, run and close: it must not shrink."""
    gpu, free = device(), []
    for cycle in range(cycles):
        batch = (1, engine.batches.opt, engine.batches.max)[cycle % 3]
        with open_engine(engine) as session:
            for _ in range(3):  # the third replays a CUDA graph
                session.run({"images": images[np.arange(batch) % len(images)]})
        with gpu.active():
            free.append(gpu.free_bytes())
    lost = free[3] - free[-1]  # the first cycles load kernels, which the driver keeps
    assert lost <= SLACK_BYTES, f"{lost} bytes were lost in {cycles} cycles: {free}"
    return {"cycles": cycles, "bytes lost": lost}


def profile(engine: Engine, images: np.ndarray) -> dict:
    """The layers' seconds make up the engine's, and carry block and role as far as the compiler left them."""
    feeds = {"images": images[np.arange(engine.batches.opt) % len(images)]}
    with open_engine(engine) as session:
        rows, compute = session.layers(feeds), median(session.device_time(feeds, 50))
    total = sum(row["seconds"] for row in rows)
    assert rows
    assert all({"name", "type", "seconds", "block", "role"} <= row.keys() for row in rows)
    assert 0.5 * compute < total < 3 * compute, (total, compute)
    longest = sorted(rows, key=lambda row: -row["seconds"])[:5]
    return {"layers": len(rows), "sum_ms": 1e3 * total, "compute_ms": 1e3 * compute, "longest": longest}


def kernels(engine: Engine, images: np.ndarray) -> dict:
    """The kernels of a call: some multiply, their types are known, and their seconds make up the engine's."""
    if refusal := tracer_missing():
        return {"refusal": refusal.reason}
    feeds = {"images": images[np.arange(engine.batches.opt) % len(images)]}
    with open_engine(engine) as session:
        rows, again = session.kernels(feeds), session.kernels(feeds)
        compute = median(session.device_time(feeds, 50))
    total = sum(row["seconds"] for row in rows)
    assert [row["name"] for row in rows] == [row["name"] for row in again]
    assert any(row["type"] in MULTIPLIED for row in rows)
    assert 0.3 * compute < total < 3 * compute, (total, compute)
    return {"tool": tracer_name(), "kernels": len(rows), "sum_ms": 1e3 * total, "compute_ms": 1e3 * compute}
