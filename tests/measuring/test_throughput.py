import threading
import time

import pytest

from tests.tiny import Tiny, some_images, variant_of
from workbench.backends import build_engine
from workbench.backends.base import Session
from workbench.errors import Cancelled, WorkbenchError
from workbench.measuring import diminishing_returns, measure_streams
from workbench.measuring.throughput import time_together
from workbench.records import Measurement, Recipe


class Waiting(Session):
    """A session whose call waits 20 ms, holding what it needs alone."""

    def __init__(self, needs, fails_at=None):
        self.needs, self.fails_at, self.calls = needs, fails_at, 0

    def run(self, feeds):
        raise NotImplementedError

    def time(self, feeds, repeats):
        if self.calls == self.fails_at:
            raise WorkbenchError("No memory for this stream", why="a test", remedy="none")
        times = []
        for _ in range(repeats):
            begin = time.perf_counter()
            with self.needs:
                time.sleep(0.02)
            times.append(time.perf_counter() - begin)
            self.calls += 1
        return times

    def memory(self):
        return 0


@pytest.mark.timing
def test_streams_that_need_nothing_of_each_other_run_side_by_side():
    alone = time_together([Waiting(threading.Lock())], {}, 0.5)
    together = time_together([Waiting(threading.Lock()) for _ in range(4)], {}, 0.5)
    assert len(together) > 3 * len(alone) > 30


@pytest.mark.timing
def test_streams_that_need_the_same_thing_wait_for_each_other():
    shared = threading.Lock()
    together = time_together([Waiting(shared) for _ in range(4)], {}, 0.5)
    assert len(together) <= 0.5 / 0.02 + 2 * 4
    assert max(together) > 2 * 0.02


@pytest.mark.parametrize("call", [0, 1, 5])
def test_a_stream_that_fails_ends_all_of_them_with_its_own_error(call):
    sessions = [Waiting(threading.Lock()), Waiting(threading.Lock(), fails_at=call), Waiting(threading.Lock())]
    begin = time.perf_counter()
    with pytest.raises(WorkbenchError, match="No memory for this stream"):
        time_together(sessions, {}, 60)
    assert time.perf_counter() - begin < 30


def test_streams_stop_when_they_are_cancelled():
    def cancel():
        raise Cancelled

    session = Waiting(threading.Lock())
    with pytest.raises(Cancelled):
        time_together([session], {}, 60, cancel)
    assert session.calls < 1000


@pytest.fixture
def engine(tmp_path):
    return build_engine(
        variant_of(Tiny.of().graph(tmp_path)), "onnxruntime", tmp_path / "w", options={"threads": 1}
    )


def test_every_number_of_streams_is_one_measurement(engine):
    told = []
    found = measure_streams(
        engine, (1, 3), images=some_images(4), batch=4, seconds=0.1, progress=lambda *call: told.append(call)
    )
    assert [(m.streams, m.batch, m.backend) for m in found] == [(1, 4, "onnxruntime"), (3, 4, "onnxruntime")]
    assert all(len(m.latencies_s) >= m.streams and m.memory_bytes > 0 for m in found)
    assert told[0] == ("streams", 0, 2)
    assert told[-1] == ("streams", 2, 2)


@pytest.mark.parametrize(
    "arguments",
    [
        dict(streams=()),
        dict(streams=(0, 1)),
        dict(streams=(1.5,)),
        dict(streams=("two",)),
        dict(streams=2),
        dict(seconds=0),
        dict(batch=64),
        dict(images=some_images(0)),
    ],
)
def test_streams_that_make_no_sense_are_refused(engine, arguments):
    with pytest.raises(WorkbenchError):
        measure_streams(engine, **arguments)


def measured(streams, mean_ms):
    return Measurement("onnxruntime", "tiny", Recipe(), 1, "v", (mean_ms / 1e3,) * 10, streams=streams)


def test_throughput_of_several_streams_is_all_their_calls_per_second():
    assert measured(4, 20).images_per_second == pytest.approx(200)
    waits = Measurement("onnxruntime", "tiny", Recipe(), 1, "v", (0.01, 0.01, 0.01, 0.07), streams=2)
    assert waits.images_per_second == pytest.approx(2 * 4 / 0.1)  # 4 calls take 0.1 s on each of two streams


def test_returns_diminish_where_no_more_streams_gain_five_percent():
    rows = [measured(1, 10), measured(2, 10.4), measured(4, 20), measured(8, 39)]  # 100, 192, 200, 205 images/s
    assert diminishing_returns(rows) == 4
    assert diminishing_returns(rows[:3]) == 2
    assert diminishing_returns([measured(1, 10), measured(2, 25)]) == 1
    with pytest.raises(WorkbenchError):
        diminishing_returns([])
