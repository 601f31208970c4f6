"""What a session does with memory, shapes and graphs, on a stand-in for CUDA that counts what it hands out.

Whether real kernels answer rightly is asked in tests/gpu; here it is
whether buffers are reused, graphs forgotten when memory moves, and everything freed, failures included.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.backends.tensorrt.stand_in import SIZE, Context, Cuda, Native
from tests.backends.vits import variant_of
from workbench.backends.hardware.gpu import Gpu
from workbench.backends.hardware.kernels import Kernel
from workbench.backends.tensorrt import engine as loading
from workbench.backends.tensorrt import session as sessions_of
from workbench.backends.tensorrt import traced_call
from workbench.backends.tensorrt.session import open_sessions
from workbench.errors import WorkbenchError
from workbench.records import Batches, Engine, Recipe


class Graph:
    """Replays what it recorded; counts how many of it live."""

    alive = 0

    def __init__(self, stream, work):
        self._work = work
        Graph.alive += 1

    def launch(self):
        self._work()

    def free(self):
        Graph.alive -= 1


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Opens an engine with so many streams on the stand-in, which has room for so many contexts."""
    cuda = Cuda()
    gpu = SimpleNamespace(cuda=cuda, active=contextlib.nullcontext, free_bytes=lambda: 1000 - len(cuda.taken))
    (tmp_path / "engine.plan").write_bytes(b"plan")
    engine = Engine(
        "tensorrt", tmp_path / "engine.plan", variant_of(tmp_path / "x.onnx", Recipe()), Batches(), "run"
    )
    for module in (loading, sessions_of):
        monkeypatch.setattr(module, "gpus", lambda: (Gpu("stand-in", 90, 1, "1"),))
    monkeypatch.setattr(loading, "device", lambda: gpu)
    monkeypatch.setattr(sessions_of, "CudaGraph", Graph)
    monkeypatch.setattr(Graph, "alive", 0)

    def open_(streams=1, room=8, plan_fits=True):
        native = Native(cuda, room) if plan_fits else None
        runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: native)
        log = SimpleNamespace(logger=None, into=lambda path: contextlib.nullcontext(), errors=["wrong version"])
        monkeypatch.setattr(loading, "BuildLog", SimpleNamespace(of=lambda adapter: log))
        module = SimpleNamespace(
            Runtime=lambda logger: runtime, TensorIOMode=SimpleNamespace(INPUT="in", OUTPUT="out")
        )
        adapter = SimpleNamespace(
            module=module,
            title="stand-in",
            is_rtx=False,
            context_of=lambda native, options, cache: (native.create_execution_context(), None),
        )
        return open_sessions(adapter, engine, streams), native, cuda

    return open_


def feeds(batch, value=1.0):
    return {"images": np.full((batch, SIZE), value, np.float32)}


def test_buffers_grow_to_the_largest_batch_and_are_reused_and_answers_are_the_callers_own(opened):
    (session,), native, cuda = opened()
    with session:
        first = session.run(feeds(8, 3.0))["logits"]
        for batch in (8, 3, 8, 1):
            np.testing.assert_array_equal(
                session.run(feeds(batch, batch))["logits"], np.full((batch, SIZE), 2 * batch)
            )
        np.testing.assert_array_equal(first, np.full((8, SIZE), 6.0))
        assert len(cuda.taken) == 4  # pinned and on the device, for input and output
        assert native.contexts[0].reshaped == 4  # the second call of eight changed nothing
        assert max(memory.memory.size for memory in cuda.taken) == 8 * SIZE * 4


def test_the_second_call_in_a_row_is_captured_and_another_shape_or_a_moved_buffer_forgets_it(opened):
    (session,), _, _ = opened()
    with session:
        for alive, batch in ((0, 2), (1, 2), (1, 2), (0, 9), (1, 9), (0, 2), (1, 2), (0, 9), (0, 2), (0, 9)):
            np.testing.assert_array_equal(session.run(feeds(batch))["logits"], np.full((batch, SIZE), 2.0))
            assert Graph.alive == alive, batch


def test_nothing_is_recorded_before_a_call_has_brought_tensorrt_up_to_date_with_its_shapes(opened, monkeypatch):
    """As TensorRT 8.6 does: the first call after a change of shapes fails where it is recorded."""
    recording, settled = [], {}

    class Recorded(Graph):
        def __init__(self, stream, work):
            recording.append(True)
            try:
                work()
            finally:
                recording.pop()
            super().__init__(stream, work)

    def enqueue(context, stream):
        up_to_date = settled.get(context) == context.reshaped
        settled[context] = context.reshaped
        return enqueue_as_before(context, stream) and (up_to_date or not recording)

    enqueue_as_before = Context.execute_async_v3
    monkeypatch.setattr(Context, "execute_async_v3", enqueue)
    monkeypatch.setattr(sessions_of, "CudaGraph", Recorded)
    (session,), _, _ = opened()
    with session:
        for batch in (8, 1, 3, 1, 3, 3, 1, 1, 8, 3, 3, 3):
            np.testing.assert_array_equal(session.run(feeds(batch))["logits"], np.full((batch, SIZE), 2.0))
        assert session.environment["cuda_graph"] is True  # no recording failed
        assert Graph.alive == 1


def test_an_engine_that_fails_while_it_is_recorded_runs_without_a_graph(opened, monkeypatch):
    class Failing(Graph):
        def __init__(self, stream, work):
            with monkeypatch.context() as meanwhile:
                meanwhile.setattr(Context, "execute_async_v3", lambda context, stream: False)
                work()

    monkeypatch.setattr(sessions_of, "CudaGraph", Failing)
    (session,), native, _ = opened()
    session.run(feeds(1))
    np.testing.assert_array_equal(session.run(feeds(1))["logits"], np.full((1, SIZE), 2.0))
    assert "wrong version" in session.environment["cuda_graph"]  # TensorRT's own words
    assert native.contexts[0].executed == 2


def test_an_engine_that_cannot_be_captured_runs_without(opened, monkeypatch):
    def refuse(stream, work):
        raise RuntimeError("CUDA error 900")

    monkeypatch.setattr(sessions_of, "CudaGraph", refuse)
    (session,), native, _ = opened()
    with session:
        for _ in range(3):
            np.testing.assert_array_equal(session.run(feeds(1))["logits"], np.full((1, SIZE), 2.0))
        assert native.contexts[0].executed == 3
        assert "CUDA error 900" in session.environment["cuda_graph"]


def test_closing_gives_everything_back_and_may_be_repeated(opened):
    sessions, _, cuda = opened(streams=3)
    for session in sessions:
        session.run(feeds(2))
        session.run(feeds(2))
    assert len(cuda.taken) == 12
    sessions[1].close()
    assert len(cuda.taken) == 8
    sessions[0].close()
    sessions[0].close()
    assert not cuda.taken
    assert Graph.alive == 0
    for session in sessions:
        with pytest.raises(WorkbenchError, match="session is closed"):
            session.run(feeds(1))


def test_a_stream_that_does_not_fit_leaves_nothing_behind(opened):
    with pytest.raises(WorkbenchError, match="no room for another stream") as error:
        opened(streams=3, room=2)
    assert "fewer streams" in error.value.remedy


def test_an_engine_of_another_version_is_refused_in_the_runtimes_words(opened):
    with pytest.raises(WorkbenchError, match="cannot be loaded") as error:
        opened(plan_fits=False)
    assert error.value.why == "wrong version"
    assert "build it again" in error.value.remedy


def test_a_batch_that_the_engine_does_not_take_changes_nothing(opened):
    (session,), _, _ = opened()
    with session:
        session.run(feeds(2))
        with pytest.raises(WorkbenchError, match="does not take the shapes"):
            session.run(feeds(33))
        np.testing.assert_array_equal(session.run(feeds(2))["logits"], np.full((2, SIZE), 2.0))


def test_every_timed_call_is_executed_and_a_failed_one_is_an_error_and_not_an_old_answer(opened):
    (session,), native, _ = opened()
    with session:
        assert len(session.time(feeds(2), 5)) == native.contexts[0].executed == 5
        native.contexts[0].execute_async_v3 = lambda stream: False
        with pytest.raises(WorkbenchError, match="failed while it ran"):
            session.run(feeds(1))


def test_compute_leaves_the_copies_out_keeps_the_device_busy_and_waits_for_every_call(opened):
    (session,), native, cuda = opened()
    with session:
        more = iter([True] * 5)
        moments = session.compute(feeds(2), lambda: next(more, False))
        assert len(moments) == 1 + 5
        assert moments == sorted(moments)
        assert cuda.uploads == 2  # of the calls before the window
        assert native.contexts[0].executed == 2 + 5
        assert (cuda.enqueued, cuda.most_enqueued) == (0, sessions_of.IN_FLIGHT)


def test_every_timed_call_copies_its_images(opened):
    (session,), _, cuda = opened()
    with session:
        session.time(feeds(2), 5)
        assert cuda.uploads == 5


def batches_of(*values, taken=None):
    """Batches of two; ``taken`` gets the value of each as soon as it is asked for."""
    for value in values:
        if taken is not None:
            taken.append(value)
        yield feeds(2, value)


def test_batches_in_flight_answer_in_order_and_are_taken_before_earlier_answers_are_read(opened):
    (session,), _, cuda = opened()
    with session:
        taken = []
        answers = session.run_all(batches_of(*range(7), taken=taken))
        first = next(answers)["logits"]
        assert taken == list(range(sessions_of.RING + 1))
        alone = session.run(feeds(2, 50.0))["logits"]  # has buffers of its own
        others = [answer["logits"] for answer in answers]
        for value, found in enumerate([first, *others]):
            np.testing.assert_array_equal(found, np.full((2, SIZE), 2.0 * value))
        np.testing.assert_array_equal(alone, np.full((2, SIZE), 100.0))
        before = len(cuda.taken)
        assert len(list(session.run_all(batches_of(1, 2, 3, 4)))) == 4
        assert len(cuda.taken) == before  # the slots are used again
    assert not cuda.taken


def test_inputs_travel_on_a_stream_of_their_own_and_compute_waits_for_them(opened):
    (session,), _, cuda = opened()
    with session:
        list(session.run_all(batches_of(1)))
        (_, copies, _), (_, recorded_on, uploaded), (_, waiting, event), compute, (_, back, _), _ = cuda.order
        assert [kind for kind, *_ in cuda.order] == ["upload", "record", "wait", "compute", "download", "record"]
        assert copies is recorded_on
        assert uploaded is event
        assert waiting is back is not copies
        assert compute[2] == int(cuda.order[0][2])  # it reads what was uploaded


def test_batches_of_changing_sizes_are_answered_and_a_caller_may_stop_early(opened):
    (session,), _, cuda = opened()
    with session:
        sizes = (2, 2, 9, 2, 1)
        found = [answer["logits"].shape for answer in session.run_all(feeds(size) for size in sizes)]
        assert found == [(size, SIZE) for size in sizes]
        answers = session.run_all(batches_of(*range(9)))
        next(answers)
        answers.close()
        before = len(cuda.taken)
        assert len(list(session.run_all(batches_of(*range(9))))) == 9
        assert len(cuda.taken) == before
        with pytest.raises(WorkbenchError, match="does not take the shapes"):
            list(session.run_all([feeds(2), feeds(33)]))
        np.testing.assert_array_equal(session.run(feeds(2))["logits"], np.full((2, SIZE), 2.0))
    assert not cuda.taken


def test_a_session_that_is_closed_between_two_answers_says_so(opened):
    (session,), _, cuda = opened()
    answers = session.run_all(batches_of(*range(9)))
    next(answers)
    session.close()
    with pytest.raises(WorkbenchError, match="session is closed"):
        next(answers)
    assert not cuda.taken


@pytest.mark.parametrize("tool", [True, False])
def test_kernels_are_those_of_one_plain_call_and_a_profiler_gets_the_same_call_as_a_program(
    opened, monkeypatch, tool
):
    (session,), native, _ = opened()
    programs = []

    def trace(call, command, path):
        call()
        *python, folder = command()
        programs.append(python)
        ran = []
        monkeypatch.setattr("workbench.backends.engines.open_engine", lambda engine: opened_again(engine, ran))
        traced_call.main(Path(folder))
        assert [set(feeds) for feeds in ran] == traced_call.NCU_CALLS * [{"images"}]
        np.testing.assert_array_equal(ran[-1]["images"], feeds(2, 5.0)["images"])
        return [Kernel("mha0", 2e-6, (4, 1, 1))] if tool else None

    def opened_again(engine, ran):
        assert engine.options["cuda_graph"] is False
        assert engine.path.read_bytes() == b"plan"
        return contextlib.nullcontext(SimpleNamespace(run=ran.append))

    monkeypatch.setattr(sessions_of, "trace", trace)
    with session:
        rows = session.kernels(feeds(2, 5.0))
        assert native.contexts[0].executed == 1
        assert Graph.alive == 0
    row = {"name": "mha0", "seconds": 2e-6, "type": None, "attention": True, "grid": (4, 1, 1)}
    assert rows == ([row] if tool else None)
    assert programs == [[sys.executable, "-m", "workbench.backends.tensorrt.traced_call"]]
