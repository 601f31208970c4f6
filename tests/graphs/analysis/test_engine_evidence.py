"""Engines that are no evidence: equal images with different answers, and accuracy that cannot be."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

import workbench as wb
from tests.graphs.onnx_file import logits
from workbench.backends import build_engine
from workbench.errors import WorkbenchError
from workbench.graphs.analysis import engine_evidence
from workbench.graphs.analysis.engine_evidence import check_equal_rows, check_not_far_above, engine_logits
from workbench.graphs.analysis.selftest import check_evaluator
from workbench.measuring.subject import Subject
from workbench.records import Batches, Recipe


@pytest.fixture(scope="module")
def engine(drawn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evidence")
    variant = wb.apply_recipe(drawn, Recipe(), folder)
    return build_engine(variant, "onnxruntime", folder, batches=Batches(2, 3, 5))


@pytest.fixture(scope="module")
def images(drawn):
    shape = (10, *drawn.image_shape)
    return np.random.default_rng(5).uniform(-1, 1, shape).astype(np.float32)


class Drifting:
    """Answers every row of a batch a little higher than the one before."""

    def __init__(self, step):
        self._step = step

    def run(self, feeds):
        rows = len(feeds["images"])
        return {"logits": np.linspace(-4, 4, 10, dtype=np.float32) + self._step * np.arange(rows)[:, None]}


def test_the_logits_of_an_engine_are_its_own_whatever_its_batches(engine, drawn, images):
    np.testing.assert_allclose(engine_logits(engine, images), logits(drawn.path, images), atol=1e-4)


def test_equal_rows_with_different_logits_are_refused_with_the_row(engine, images):
    subject = Subject.of(engine)
    assert check_equal_rows(Drifting(0.0), subject, images[0], 4) == 0
    assert check_equal_rows(Drifting(1e-3), subject, images[0], 4) < 1e-3
    with pytest.raises(WorkbenchError, match="row 3 of 4 differs from row 0"):
        check_equal_rows(Drifting(0.1), subject, images[0], 4)


def test_an_engine_far_above_its_fp32_is_refused():
    rng, labels = np.random.default_rng(0), np.arange(400) % 10

    def right_on(share):
        return np.where(rng.uniform(size=400) < share, labels, (labels + 1) % 10)

    with pytest.raises(WorkbenchError, match="far more accurate than its own FP32"):
        check_not_far_above(right_on(0.845), right_on(0.58), labels)
    assert check_not_far_above(right_on(0.58), right_on(0.845), labels) < 0


def test_a_gain_that_the_sample_cannot_show_is_no_reason_to_refuse():
    labels = np.zeros(40, np.int64)
    fp32 = np.where(np.arange(40) < 36, 0, 1)
    better = np.where(np.arange(40) < 38, 0, 1)
    assert check_not_far_above(better, fp32, labels) == pytest.approx(0.05)


def test_the_self_test_runs_the_engine(engine, drawn, images, monkeypatch):
    labels = logits(drawn.path, images).argmax(axis=1)
    found = check_evaluator(images, labels, graph=drawn, engine=engine).frame().set_index("what").found
    assert "batches of 3 and 5" in found["equal images in the engine"]
    assert found["the engine's accuracy"].startswith("+0.0 points")
    monkeypatch.setattr(engine_evidence, "open_engine", lambda engine: contextlib.nullcontext(Drifting(0.1)))
    with pytest.raises(WorkbenchError, match="refused as evidence"):
        check_evaluator(images, graph=drawn, engine=engine)
