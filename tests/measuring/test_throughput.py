import statistics
import threading
import time

import pytest

from tests.tiny import Tiny, some_images, variant_of
from workbench.backends import build_engine
from workbench.backends.base import Session
from workbench.errors import Cancelled, WorkbenchError
from workbench.measuring import diminishing_returns, measure_streams, throughput
from workbench.measuring.throughput import count_compute, count_end_to_end
from workbench.measuring.timing import time_calls
from workbench.records import Measurement, Recipe, Window


class Waiting(Session):
    """A session whose call waits 20 ms, holding what it needs alone."""

    def __init__(self, needs, fails_at=None):
        self.needs, self.fails_at, self.calls = needs, fails_at, 0

    def run(self, feeds):
        if self.calls == self.fails_at:
            raise WorkbenchError("No memory for this stream", why="a test", remedy="none")
        with self.needs:
            time.sleep(0.02)
        self.calls += 1
        return {}

    def time(self, feeds, repeats):
        raise NotImplementedError

    def memory(self):
        return 0


@pytest.mark.timing
def test_streams_that_need_nothing_of_each_other_run_side_by_side():
    alone, _ = count_end_to_end([Waiting(threading.Lock())], {}, 0.5)
    together, _ = count_end_to_end([Waiting(threading.Lock()) for _ in range(4)], {}, 0.5)
    assert len(together) > 3 * len(alone) > 30


@pytest.mark.timing
def test_streams_that_need_the_same_thing_wait_for_each_other():
    shared = threading.Lock()
    together, _ = count_end_to_end([Waiting(shared) for _ in range(4)], {}, 0.5)
    assert len(together) <= 0.5 / 0.02 + 2 * 4
    assert max(together) > 2 * 0.02


@pytest.mark.parametrize("call", [0, 1, 5])
def test_a_stream_that_fails_ends_all_of_them_with_its_own_error(call):
    sessions = [Waiting(threading.Lock()), Waiting(threading.Lock(), fails_at=call), Waiting(threading.Lock())]
    begin = time.perf_counter()
    with pytest.raises(WorkbenchError, match="No memory for this stream"):
        count_end_to_end(sessions, {}, 60)
    assert time.perf_counter() - begin < 30


def test_streams_stop_when_they_are_cancelled():
    def cancel():
        raise Cancelled

    session = Waiting(threading.Lock())
    with pytest.raises(Cancelled):
        count_end_to_end([session], {}, 60, cancel)
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


class Device:
    """A device that computes one call at a time."""

    def __init__(self):
        self.lock = threading.Lock()

    def compute(self):
        with self.lock:
            time.sleep(COMPUTE_S)


#: A call copies its images for longer than the device computes, as float32 batches of 128 do on an H200.
STAGING_S, COMPUTE_S = 0.04, 0.01


class Staging(Session):
    """A session on a device: a call copies its images first, and reports the latency of the rest alone."""

    def __init__(self, device):
        self._device, self.completed = device, 0

    def run(self, feeds):
        time.sleep(STAGING_S)
        self._device.compute()
        self.completed += 1
        return {"logits": feeds}

    def time(self, feeds, repeats):
        times = []
        for _ in range(repeats):
            time.sleep(STAGING_S)
            begin = time.perf_counter()
            self._device.compute()
            times.append(time.perf_counter() - begin)
            self.completed += 1
        return times

    def compute(self, feeds, more):
        moments = [time.perf_counter()]
        while more():
            self._device.compute()
            moments.append(time.perf_counter())
        return moments

    def memory(self):
        return 0


@pytest.mark.parametrize("streams", [1, 2, 8])
def test_throughput_is_what_was_completed_over_the_wall_clock_whatever_the_latencies_are(streams):
    device = Device()
    sessions = [Staging(device) for _ in range(streams)]
    begin = time.perf_counter()
    times, window = count_end_to_end(sessions, {}, 0.4)
    wall_s, completed = time.perf_counter() - begin, sum(session.completed for session in sessions)
    assert sum(window.calls) == len(times) == completed - throughput.ALLOCATING * streams
    assert len(times) / wall_s <= window.calls_per_second
    # no call is faster than its staging and its compute, and no two calls compute at the same time
    assert window.calls_per_second <= min(streams / (STAGING_S + COMPUTE_S), 1 / COMPUTE_S)
    assert min(times) >= STAGING_S + COMPUTE_S


def test_one_stream_is_counted_too_and_the_staging_that_its_latencies_leave_out_is_in_the_count():
    session = Staging(Device())
    latency = time_calls(session, {}, seconds=0.2)
    found = measurement(latency, batch=32)
    assert found.images_per_second <= 32 / (STAGING_S + COMPUTE_S)
    assert found.images_per_second <= 32 / (STAGING_S + statistics.fmean(latency.seconds))  # the old formula fails
    assert found.compute_images_per_second <= 32 / COMPUTE_S
    assert sum(found.end_to_end.calls) == len(latency.seconds)
    assert not found.caveat


def test_compute_is_counted_over_all_streams_from_the_first_begin_to_the_last_completion():
    window = count_compute([Scripted(10.0, 11, 12, 13), Scripted(11.5, 12.5, 13.5)], {}, 1)
    assert sum(window.calls) == 5
    assert window.calls_per_second == pytest.approx(5 / (13.5 - 10))
    assert count_compute([Waiting(threading.Lock())], {}, 0.01) is None


class Scripted(Waiting):
    """Answers ``compute`` with these moments."""

    def __init__(self, *moments):
        super().__init__(threading.Lock())
        self._moments = list(moments)

    def compute(self, feeds, more):
        return self._moments


def test_a_runtime_on_a_device_has_two_figures_and_one_in_the_callers_memory_has_one(engine, monkeypatch):
    (on_cpu,) = measure_streams(engine, (2,), batch=4, seconds=0.05)
    assert on_cpu.compute == on_cpu.end_to_end
    assert on_cpu.images_per_second == pytest.approx(4 * on_cpu.end_to_end.calls_per_second)
    device = Device()
    monkeypatch.setattr(throughput, "open_streams", lambda engine, count: [Staging(device) for _ in range(count)])
    (on_device,) = measure_streams(engine, (2,), batch=4, seconds=0.2)
    assert on_device.images_per_second <= 4 * 2 / (STAGING_S + COMPUTE_S)
    assert on_device.compute_images_per_second <= 4 / COMPUTE_S
    assert on_device.compute != on_device.end_to_end


def measurement(latency, **fields):
    counted = {"end_to_end": latency.end_to_end, "compute": latency.compute}
    return Measurement("tensorrt", "m", Recipe(), variant="v", latencies_s=latency.seconds, **counted, **fields)


def measured(streams, per_second):
    window = Window((per_second,), (1.0,))
    return Measurement("onnxruntime", "tiny", Recipe(), 1, "v", (0.01,), streams=streams, end_to_end=window)


def test_returns_diminish_where_no_more_streams_gain_five_percent():
    rows = [measured(1, 100), measured(2, 192), measured(4, 200), measured(8, 205)]
    assert diminishing_returns(rows) == 4
    assert diminishing_returns(rows[:3]) == 2
    assert diminishing_returns([measured(1, 100), measured(2, 80)]) == 1
    with pytest.raises(WorkbenchError):
        diminishing_returns([])
