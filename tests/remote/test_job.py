"""A job in this process: an engine and its measurements, and the reason when the engine cannot be opened."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tiny import some_images
from workbench.backends.kernel_record import recorded_kernels
from workbench.backends.onnxruntime import OrtSession
from workbench.errors import Cancelled, Refusal, WorkbenchError
from workbench.records import Batches
from workbench.remote.job import EvaluationSet, Job, run_job
from workbench.workspace import Workspace


def test_a_job_builds_measures_and_reports_what_it_did(tmp_path, tiny):
    model, variant = tiny
    images = some_images(20)
    truth = model.logits(images).argmax(axis=1)
    job = Job(variant, "onnxruntime", Batches(1, 4, 8), measure=(1, 8), streams=(1, 2), layers=True, seconds=0.05)
    report = run_job(job, tmp_path / "workspace", EvaluationSet(images, (truth + 1) % 7, truth))
    assert [m.batch for m in report.measurements] == [1, 8]
    assert all(m.top1 == 0 and m.agreement == 1 and m.p50_ms > 0 for m in report.measurements)
    assert [m.streams for m in report.streams] == [1, 2]
    assert {"block00/mlp/fc1", "head"} <= {row["name"].split(":")[0] for row in report.layers}
    assert Workspace(tmp_path / "workspace").observations("engine", type(report.engine)) == [report.engine]


def test_a_job_without_measurements_only_builds(tmp_path, tiny):
    report = run_job(Job(tiny[1], "onnxruntime", Batches()), tmp_path / "workspace")
    assert report.engine.path.exists()
    assert (report.measurements, report.streams, report.layers, report.refusal) == ((), (), (), None)


def test_the_kernels_of_a_call_are_kept_beside_the_engine_and_a_failed_tracer_loses_nothing(
    tmp_path, tiny, monkeypatch
):
    job = Job(tiny[1], "onnxruntime", Batches(1, 4, 8), measure=(1,), layers=True, seconds=0.05)
    row = {"name": "mha0", "seconds": 1e-6, "type": None, "attention": True, "grid": [4, 1, 1]}

    def run(kernels):
        monkeypatch.setattr(OrtSession, "kernels", kernels)
        return run_job(job, tmp_path / "workspace")

    def fail(session, feeds):
        raise WorkbenchError("ncu listed no kernels", why="ERR_NVGPUCTRPERM", remedy="run as root")

    known = run(lambda session, feeds: [row])
    assert recorded_kernels(known.engine) == {4: [row]}
    assert known.kernels_refusal is None
    unknown = run(fail)
    assert recorded_kernels(unknown.engine) == {}
    assert unknown.kernels_refusal == Refusal("ncu listed no kernels: ERR_NVGPUCTRPERM", "run as root")
    assert unknown.measurements
    assert unknown.layers
    assert run(lambda session, feeds: None).kernels_refusal is None  # a CPU has no kernels


def test_an_engine_that_cannot_be_opened_is_kept_with_the_reason_and_cancelling_is_none(
    tmp_path, tiny, monkeypatch
):
    job = Job(tiny[1], "onnxruntime", Batches(), measure=(1,))

    def opening_raises(error):
        def open_engine(engine):
            raise error

        monkeypatch.setattr("workbench.remote.job.open_engine", open_engine)

    opening_raises(WorkbenchError("It cannot be opened", why="there is no GPU", remedy="name a host with one"))
    report = run_job(job, tmp_path / "workspace")
    assert report.engine.path.exists()
    assert report.refusal == Refusal("It cannot be opened: there is no GPU", "name a host with one")
    opening_raises(Cancelled())
    with pytest.raises(Cancelled):
        run_job(job, tmp_path / "workspace")


def test_an_evaluation_set_survives_its_file(tmp_path):
    evaluation = EvaluationSet(some_images(3), None, np.array([1, 2, 3]))
    evaluation.save(tmp_path / "evaluation.npz")
    again = EvaluationSet.load(tmp_path / "evaluation.npz")
    np.testing.assert_array_equal(again.images, evaluation.images)
    np.testing.assert_array_equal(again.reference, evaluation.reference)
    assert again.labels is None
