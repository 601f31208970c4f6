import numpy as np
import pytest

import workbench as wb
from tests.graphs.drawn import TINY, draw
from tests.graphs.onnx_file import logits
from workbench.errors import WorkbenchError
from workbench.studies import kept_accuracy
from workbench.studies.kept_accuracy import find_or_measure_accuracy


@pytest.fixture
def graph(tmp_path):
    return draw(tmp_path)


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(-1, 1, (20, TINY.image_size, TINY.image_size, 3)).astype(np.float32)


def test_an_accuracy_is_measured_once_for_the_same_file_and_images(graph, images, tmp_path, monkeypatch):
    classes = logits(graph.path, images).argmax(axis=1)
    variant = wb.apply_recipe(graph, wb.Recipe("int8-dynamic"), tmp_path / "ws")
    given = {"images": images, "labels": classes, "reference": classes}
    first = find_or_measure_accuracy(variant, tmp_path / "ws", **given)
    assert first.images == 20
    assert first.agreement == first.top1 > 0.5
    assert first.latencies_s == ()
    other = find_or_measure_accuracy(
        variant, tmp_path / "ws", **given | {"reference": (classes + 1) % TINY.classes}
    )
    assert other.agreement < first.agreement
    monkeypatch.setattr(kept_accuracy, "measure", None)  # calling it would fail
    assert find_or_measure_accuracy(variant, tmp_path / "ws", **given) == first


def test_types_that_a_cpu_lacks_are_emulated(graph, images, tmp_path):
    variant = wb.apply_recipe(graph, wb.Recipe("fp16"), tmp_path / "ws")
    found = find_or_measure_accuracy(variant, tmp_path / "ws", images=images, labels=np.zeros(20, int))
    assert found.execution == "emulated"
    assert found.agreement >= 0.9


def test_labels_that_do_not_fit_are_refused_and_nothing_is_kept(graph, images, tmp_path):
    variant = wb.apply_recipe(graph, wb.Recipe(), tmp_path / "ws")
    with pytest.raises(WorkbenchError, match="labels do not fit"):
        find_or_measure_accuracy(variant, tmp_path / "ws", images=images, labels=np.zeros(3, int))
    assert wb.Workspace(tmp_path / "ws").observations(kept_accuracy.KEPT, wb.Measurement) == []
