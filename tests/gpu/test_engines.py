"""Engines on a GPU: the contract, streams, leaks, profiles, and jobs in a process of their own.

Where only NumPy and a runtime are installed, ``benchmarks/gpu_host.py`` runs the same checks without pytest.
"""

from __future__ import annotations

import pytest

from tests.gpu import checks
from tests.tiny import Tiny, some_images, variant_of
from workbench.backends import backend, build_engine
from workbench.backends.hardware.gpu import gpus, pycuda_missing
from workbench.measuring import diminishing_returns, measure, measure_streams
from workbench.records import Batches
from workbench.remote.host import Host

pytestmark = pytest.mark.gpu

IMAGES = some_images(32)


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt-rtx"])
def built(request, tmp_path_factory):
    """A model, its variant and an engine for 1 to 32 images; layers wide enough to take time."""
    runtime, folder = backend(request.param), tmp_path_factory.mktemp("gpu")
    model = Tiny.of(hidden=2048)
    variant = variant_of(model.graph(folder), runtimes=(request.param,))
    if not gpus():
        pytest.skip("there is no GPU: run this on a machine with one, or benchmarks/gpu_host.py on a bare host")
    for refusal in (runtime.missing(), runtime.refuses(variant), pycuda_missing()):
        if refusal:
            pytest.skip(f"{refusal.reason}. Remedy: {refusal.remedy}")
    return model, variant, build_engine(variant, request.param, folder / "workspace", batches=Batches(1, 8, 32))


def test_an_engine_keeps_the_contract(built):
    model, _, engine = built
    checks.contract(engine, IMAGES, model.logits(IMAGES), tolerance=0.01)


def test_streams_share_weights_and_close_together(built):
    checks.sharing(built[2], IMAGES)


def test_nothing_leaks_over_many_openings(built):
    checks.leak(built[2], IMAGES, cycles=60)


def test_layers_add_up_to_the_engine(built):
    found = checks.profile(built[2], IMAGES)
    assert found["layers"] > 0


def test_kernels_are_the_same_in_every_call_and_add_up_to_the_engine(built):
    found = checks.kernels(built[2], IMAGES)
    if "refusal" in found:
        pytest.skip(f"{found['refusal']}. Remedy: pip install cupti-python, or put ncu on the PATH")
    assert found["kernels"] > 0


def test_accuracy_and_device_time_are_measured(built):
    model, _, engine = built
    truth = model.logits(IMAGES).argmax(axis=1)
    found = measure(engine, IMAGES, truth, batch=8, reference=truth, seconds=0.5)
    assert found.top1 == 1
    assert len(found.device_s) > 0
    assert found.memory_bytes > 0


def test_the_point_of_diminishing_returns_is_among_the_streams_tried(built):
    measured = measure_streams(built[2], (1, 2, 4, 8), images=IMAGES, batch=8, seconds=0.5)
    assert all(m.images_per_second > 0 for m in measured)
    assert diminishing_returns(measured) in (1, 2, 4, 8)


def test_a_job_runs_in_a_process_of_its_own(built, tmp_path):
    model, variant, engine = built
    truth = model.logits(IMAGES).argmax(axis=1)
    host = Host("here", engine.backend, cache=str(tmp_path / "cache"))
    report = host.run(
        variant, tmp_path / "workspace", measure=(8,), layers=True, images=IMAGES, labels=truth, seconds=0.2
    )
    assert report.refusal is None
    assert report.measurements[0].top1 == 1
    assert report.layers
