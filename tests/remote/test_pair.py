import sys

import numpy as np
import pytest

import workbench as wb
from tests.graphs.drawn import TINY, draw
from workbench.errors import Refusal, WorkbenchError
from workbench.remote.host import Host
from workbench.remote.job import Report
from workbench.remote.pair import measure_on

SIZE = TINY.image_size


@pytest.fixture
def variants(tmp_path):
    graph = draw(tmp_path)
    return [
        wb.apply_recipe(graph, wb.Recipe(name, layout="cpu"), tmp_path / "ws") for name in ("fp32", "int8-dynamic")
    ]


@pytest.fixture
def timed():
    images = np.random.default_rng(0).uniform(-1, 1, (12, SIZE, SIZE, 3)).astype(np.float32)
    return {"images": images, "labels": np.zeros(12, int), "batch": 4, "seconds": 0.05}


def test_here_the_calls_are_interleaved(variants, timed, tmp_path):
    engines, found = measure_on(Host("onnxruntime", "onnxruntime"), variants, tmp_path / "ws", **timed)
    assert [engine.variant for engine in engines] == variants
    assert found[0].environment["interleaved"] == found[1].environment["interleaved"]
    assert {(m.batch, m.images) for m in found} == {(4, 12)}


@pytest.mark.slow
def test_elsewhere_each_engine_is_a_job_and_the_first_is_the_reference(variants, timed, tmp_path):
    host = Host("other", "onnxruntime", (sys.executable,))
    engines, (plain, other) = measure_on(host, variants, tmp_path / "ws", **timed)
    assert [engine.host for engine in engines] == ["other", "other"]
    assert "interleaved" not in plain.environment
    same = np.array(plain.predictions) == np.array(other.predictions)
    assert other.agreement == pytest.approx(same.mean())
    assert wb.compare(other, plain).interleaved is False


def test_an_engine_that_the_host_cannot_open_is_an_error_with_its_reason(variants, timed, tmp_path, monkeypatch):
    engine = wb.build_engine(variants[0], "onnxruntime", tmp_path / "ws")
    why = Refusal("there is no GPU", "name another host")
    monkeypatch.setattr(Host, "run", lambda self, *given, **more: Report(engine, refusal=why))
    with pytest.raises(WorkbenchError, match="there is no GPU"):
        measure_on(Host("t4", "tensorrt", ("ssh", "t4", "python3")), variants, tmp_path / "ws", **timed)
