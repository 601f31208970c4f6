"""Studies with the project's own recipes and backends, on a model of two matrix products."""

import numpy as np
import pytest

import workbench as wb
from tests.tiny import CLASSES, SIZE, Tiny
from workbench.records import Engine


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


def test_int8_dynamic_is_classified_at_each_batch_because_its_ranges_are_the_batchs(study):
    rng = np.random.default_rng(2)
    images = rng.normal(size=(96, SIZE, SIZE, 3)) * rng.choice([0.02, 1.0], (96, 1, 1, 1))  # dark among bright ones
    images = images.astype(np.float32)
    labels = Tiny.of().logits(images).argmax(axis=1)
    ran = study(wb.Recipe("int8-dynamic"), images=images, labels=labels, batches=(1, 8)).run()
    one, eight = ran.results().measurements()
    assert (one.batch, eight.batch) == (1, 8)
    assert one.predictions != eight.predictions
    engine = next(e for e in ran.workspace.observations("engine", Engine) if e.run_id == one.run_id)
    for found in (one, eight):
        alone = wb.measure(engine, images, labels, batch=found.batch, seconds=0)
        assert found.predictions == alone.predictions
    assert one.top1 > eight.top1  # an image alone has a range of its own


def test_fp16_that_overflows_is_a_row_that_says_so(tmp_path, study):
    tiny = Tiny.of()
    graph = Tiny(tiny.first * np.float32(3e5), tiny.second / np.float32(3e5)).graph(tmp_path)
    rng = np.random.default_rng(1)
    images = rng.normal(size=(40, SIZE, SIZE, 3)).astype(np.float32)
    labels = tiny.logits(images).argmax(axis=1)
    ran = wb.Study(
        graph,
        tmp_path / "own",
        recipes=[wb.Recipe(), wb.Recipe("fp16")],
        images=images,
        labels=labels,
        seconds=0.05,
    )
    frame = ran.run().frame().set_index(["precision", "batch"])
    assert frame.top1["fp32", 8] == 1
    assert frame.execution["fp16", 8] == "refused" or frame.execution["fp16", 8] == "built"
    assert "NaN or infinite" in frame.reason["fp16", 8] or "not finite" in frame.reason["fp16", 8]
