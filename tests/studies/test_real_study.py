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


def test_what_runs_is_measured_what_is_emulated_is_labelled_and_what_cannot_be_made_is_a_row(study):
    recipes = [wb.Recipe(), wb.Recipe("int8-dynamic"), wb.Recipe("bf16"), wb.Recipe("fp16")]
    absent = wb.Recipe("int8-dynamic", exclude=("block77",))
    frame = study(*recipes, absent).run().frame()
    assert list(frame.execution) == ["executed", "executed", "refused", "emulated", "refused"]
    assert "block77" in frame.reason[4]
    frame = frame[:4].set_index("precision")
    assert "emulated" in frame.notes["fp16"]
    assert frame.top1["fp32"] == 0.9  # every tenth label is wrong on purpose
    assert abs(frame.drop_points["int8-dynamic"]) <= 2
    assert "BF16" in frame.reason["bf16"]
    assert "tensorrt" in frame.remedy["bf16"]


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
