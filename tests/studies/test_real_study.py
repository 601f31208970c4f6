"""Studies with the project's own recipes and backends, on a model of two matrix products."""

import numpy as np
import pytest

import workbench as wb
from tests.tiny import CLASSES, SIZE, Tiny


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.measuring.timing.WINDOW_S", 0.002)
    tiny = Tiny.of()
    images = np.random.default_rng(1).normal(size=(100, SIZE, SIZE, 3)).astype(np.float32)
    labels = tiny.logits(images).argmax(axis=1)
    labels[::10] = (labels[::10] + 1) % CLASSES
    graph = tiny.graph(tmp_path)

    def make(*recipes, **arguments):
        given = {"images": images, "labels": labels, "batches": (8,), "seconds": 0.05}
        return wb.Study(graph, tmp_path / "workspace", recipes=recipes, **(given | arguments))

    return make


def test_fp32_and_int8_dynamic_run_and_bf16_says_what_it_needs(study):
    frame = study(wb.Recipe(), wb.Recipe("int8-dynamic"), wb.Recipe("bf16")).run().frame().set_index("precision")
    assert list(frame.execution) == ["executed", "executed", "refused"]
    assert frame.top1["fp32"] == 0.9  # every tenth label is wrong on purpose
    assert abs(frame.drop_points["int8-dynamic"]) <= 2
    assert "BF16" in frame.reason["bf16"]
    assert "tensorrt" in frame.remedy["bf16"]


def test_a_recipe_that_cannot_be_applied_is_a_row_and_the_others_are_measured(study):
    frame = study(wb.Recipe(), wb.Recipe("int8-dynamic", exclude=("block77",))).run().frame()
    assert list(frame.execution) == ["executed", "refused"]
    assert "block77" in frame.reason[1]


def test_fp16_on_a_cpu_is_measured_and_labelled_emulated(study):
    frame = study(wb.Recipe("fp16")).run().frame()
    assert list(frame.execution) == ["emulated"]
    assert "emulated" in frame.notes[0]


def test_an_engine_for_a_gpu_that_is_not_here_is_built_and_says_so(study):
    pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx (Linux, x86-64)")
    built = study(wb.Recipe("fp16"), backends=("tensorrt-rtx",), cards={"tensorrt-rtx": "SM86"})
    row = built.run().frame().iloc[0]
    assert row.execution == "built"
    assert row.build_s > 0
    assert row.engine_mib > 0
    assert row.reason
    assert np.isnan(row.p50_ms)
    engines = len(list((built.workspace.path / "engines").iterdir()))
    assert built.run().frame().execution[0] == "built"
    assert len(list((built.workspace.path / "engines").iterdir())) == engines  # tried again, not built again
