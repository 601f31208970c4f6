import time

import numpy as np
import pytest

import workbench as wb
from tests.tiny import Tiny
from workbench.errors import Cancelled, WorkbenchError
from workbench.measuring import open_loop
from workbench.measuring.open_loop import OpenLoop, measure_open_loop

CALL_S = 0.02


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("open-loop")
    variant = wb.apply_recipe(Tiny.of().graph(folder), wb.Recipe(), folder / "workspace")
    return wb.build_engine(variant, "onnxruntime", folder / "workspace", batches=wb.Batches(1, 8, 64))


@pytest.fixture
def slow(engine, monkeypatch):
    """Each call takes 20 ms at least, however many images it has."""
    opened = open_loop.open_streams

    def open_slow(engine, streams):
        sessions = opened(engine, streams)
        for session in sessions:
            run = session.run
            monkeypatch.setattr(session, "run", lambda feeds, run=run: (time.sleep(CALL_S), run(feeds))[1])
        return sessions

    monkeypatch.setattr(open_loop, "open_streams", open_slow)
    return engine


def test_every_image_is_served_once_and_takes_as_long_as_its_call_and_its_wait(slow):
    found = measure_open_loop(slow, 20.0, batch=4, seconds=1.0)
    assert len(found.latencies_s) == len(found.waits_s) == 20
    assert min(found.waits_s) >= 0
    assert min(np.subtract(found.latencies_s, found.waits_s)) >= CALL_S
    assert 5 <= found.calls <= 20
    assert found.p50_ms <= found.p99_ms


def test_more_images_than_calls_can_take_make_a_queue_that_larger_batches_carry(slow):
    alone = measure_open_loop(slow, 400.0, batch=1, seconds=0.5)
    together = measure_open_loop(slow, 400.0, batch=64, seconds=0.5)
    assert not alone.keeps_up  # 50 calls a second at most
    assert alone.calls == len(alone.latencies_s) == len(alone.waits_s) < 100  # stopped after 1.5 s, not after 4 s
    assert together.calls < 100
    assert together.p50_ms < alone.p50_ms
    assert OpenLoop(1, 1, 1, (0.1,) * 10, (0.0,) * 10, 10, 1.0).keeps_up


def test_a_cancelled_run_ends_all_streams(slow):
    def cancel(stage, done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        measure_open_loop(slow, 100.0, batch=1, streams=2, seconds=0.5, progress=cancel)


@pytest.mark.parametrize("arguments", [{"load": 0}, {"load": 100.0, "seconds": 0}, {"load": 1.0, "seconds": 1.0}])
def test_an_open_loop_without_images_is_refused(engine, arguments):
    with pytest.raises(WorkbenchError, match="An open loop cannot be run"):
        measure_open_loop(engine, **arguments)
