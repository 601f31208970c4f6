"""A host that lies: its report is compared with what was asked, and its engine is not loaded unless trusted."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil

import pytest

from tests.remote.jobs import IMAGES
from tests.tiny import Tiny, variant_of
from workbench.backends import open_engine
from workbench.digests import file_digest
from workbench.errors import WorkbenchError
from workbench.records import Batches, encode
from workbench.remote.job import EvaluationSet, Job, run_job
from workbench.remote.validation import Asked, validated, validated_rows


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    model = Tiny.of()
    variant = variant_of(model.graph(tmp_path_factory.mktemp("model"), external=True))
    truth = model.logits(IMAGES).argmax(axis=1)
    job = Job(variant, "onnxruntime", Batches(1, 2, 4), measure=(1, 4), streams=(2,), layers=True, seconds=0.01)
    return Asked(job, EvaluationSet(IMAGES, truth, truth), "box", elsewhere=True)


@pytest.fixture(scope="module")
def honest(asked, tmp_path_factory):
    return run_job(asked.job, tmp_path_factory.mktemp("host"), asked.evaluation)


@pytest.fixture
def received(asked, honest, tmp_path):
    """Gives a report with changes to what came of it, with the engine's files in a folder of their own."""
    source, home = honest.engine.path.parent, tmp_path / "home"

    def receive(change=lambda report: None):
        shutil.copytree(source, home, dirs_exist_ok=True)
        report = encode(honest, functools.partial(os.path.relpath, start=source))
        change(report)
        return validated(report, asked, home, "run")

    return receive


def test_an_honest_report_keeps_its_times_and_has_checksums_computed_here(received, asked, honest):
    report = received(lambda report: report["engine"].update(checksums={}))
    assert [one.latencies_s for one in report.measurements] == [one.latencies_s for one in honest.measurements]
    assert [one.top1 for one in report.measurements] == [1, 1]
    assert report.engine.checksums["model.onnx"] == file_digest(asked.job.variant.path)
    assert (report.engine.host, report.engine.trusted, report.engine.variant) == ("box", False, asked.job.variant)


def of(part, **changes):
    """A change of the engine, or of the first measurement."""
    return lambda report: (report["engine"] if part == "engine" else report[part][0]).update(changes)


def with_recipe(**changes):
    return lambda report: report["measurements"][0]["recipe"].update(changes)


LIES = {
    "another backend": of("engine", backend="tensorrt"),
    "other batches": of("engine", batches={"min": 1, "opt": 1, "max": 1}),
    "a card": of("engine", card="T4"),
    "options that were not asked": of("engine", options={"version_compatible": True}),
    "a negative build": of("engine", build_seconds=-1.0),
    "another variant": lambda report: report["engine"]["variant"].update(digest="other"),
    "no measurements": lambda report: report.update(measurements=[]),
    "a batch twice": lambda report: report["measurements"][0].update(batch=4),
    "another recipe": with_recipe(precision="int8"),
    "another model": of("measurements", model="other"),
    "another data set": of("measurements", dataset="mine"),
    "labels that make it right": of("measurements", labels=[0] * 40),
    "a reference that agrees": of("measurements", reference_predictions=[0] * 40),
    "too few predictions": of("measurements", predictions=[0], labels=[0], reference_predictions=[0]),
    "classes that the model lacks": of("measurements", predictions=[1000] * 40),
    "a call in no time": of("measurements", latencies_s=[0.0]),
    "no call": of("measurements", latencies_s=[]),
    "times that are none": of("measurements", latencies_s=[float("nan")]),
    "times as text": of("measurements", latencies_s=["1"]),
    "built only": of("measurements", execution="built"),
    "streams that were not asked": of("streams", streams=64),
    "accuracy of streams": of("streams", predictions=[0], labels=[0]),
    "layers without a name": lambda report: report.update(layers=[{"seconds": 1.0}]),
    "a refusal beside measurements": lambda report: report.update(refusal={"reason": "no", "remedy": "no"}),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_report_about_something_else_than_was_asked_is_refused(received, lie):
    with pytest.raises(WorkbenchError, match=r"something else than was asked|cannot be read"):
        received(lie)


def test_another_model_under_the_name_of_the_variant_is_refused(received, honest):
    def exchange(report):
        report["engine"].update(path="nodes.json", checksums={})

    with pytest.raises(WorkbenchError, match="its model"):
        received(exchange)


def test_a_plan_from_elsewhere_is_loaded_only_from_a_host_that_is_trusted_by_name(received, asked, monkeypatch):
    engine = received().engine
    with open_engine(engine):  # ONNX holds no code
        pass
    monkeypatch.setattr("workbench.backends.onnxruntime.OnnxRuntime.copies_variant", False)
    with pytest.raises(WorkbenchError, match="host 'box' built it") as error:
        open_engine(engine)
    assert "trusted = true" in error.value.remedy
    with pytest.raises(WorkbenchError, match="host 'box' built it"):
        open_engine(engine, trust=["another"])
    with open_engine(engine, trust=["box"]), open_engine(dataclasses.replace(engine, trusted=True)):
        pass


COLUMNS = ("item", "found", "status", "remedy")


@pytest.mark.parametrize("rows", [None, {}, [1], [{"item": "x"}], [dict.fromkeys(COLUMNS)]])
def test_rows_of_a_doctor_are_texts(rows):
    with pytest.raises(WorkbenchError, match="no doctor's rows"):
        validated_rows(rows)
