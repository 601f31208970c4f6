"""What a session does with memory, shapes and graphs, on a stand-in for CUDA that counts what it hands out.

The stand-in's engine doubles its input. Whether real kernels answer rightly is asked in tests/gpu; here it is
whether buffers are reused, graphs forgotten when memory moves, and everything freed, failures included.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

from tests.backends.vits import variant_of
from workbench.backends.hardware.gpu import Gpu
from workbench.backends.tensorrt import engine as loading
from workbench.backends.tensorrt import session as sessions_of
from workbench.backends.tensorrt.session import open_sessions
from workbench.errors import WorkbenchError
from workbench.records import Batches, Engine, Recipe

SIZE = 4


class Pinned:
    """Host memory, known to NumPy as the base of its array."""

    def __init__(self, cuda, count):
        self._cuda, self.memory = cuda, np.zeros(count, np.uint8)
        self.__array_interface__ = self.memory.__array_interface__
        cuda.taken.add(self)

    def free(self):
        self._cuda.taken.remove(self)


class OnDevice:
    def __init__(self, cuda, count):
        self._cuda, self.memory = cuda, np.zeros(count, np.uint8)
        cuda.taken.add(self)

    def __int__(self):
        return id(self)

    def free(self):
        self._cuda.taken.remove(self)


class Cuda:
    """Memory as pycuda.driver hands it out; ``taken`` is what was not given back."""

    def __init__(self):
        self.taken, self.copies = set(), 0

    def pagelocked_empty(self, count, dtype):
        return np.asarray(Pinned(self, count))

    def mem_alloc(self, count):
        return OnDevice(self, count)

    def memcpy_htod_async(self, memory, host, stream):
        memory.memory[: host.nbytes] = host.view(np.uint8).ravel()

    def memcpy_dtoh_async(self, host, memory, stream):
        host.view(np.uint8).reshape(-1)[:] = memory.memory[: host.nbytes]

    def at(self, address):
        return next(memory for memory in self.taken if id(memory) == address)

    def Stream(self):
        return SimpleNamespace(handle=7, synchronize=lambda: None)


class Context:
    """Doubles ``images`` into ``logits``."""

    def __init__(self, cuda):
        self._cuda, self.shape, self.addresses, self.reshaped, self.executed = cuda, None, {}, 0, 0

    def set_optimization_profile_async(self, profile, stream):
        self.profile = profile

    def set_input_shape(self, name, shape):
        self.shape = tuple(shape)
        self.reshaped += 1

    def get_tensor_shape(self, name):
        return self.shape

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        count = int(np.prod(self.shape)) * 4
        given = self._cuda.at(self.addresses["images"]).memory[:count].view(np.float32)
        self._cuda.at(self.addresses["logits"]).memory[:count].view(np.float32)[:] = 2 * given
        self.executed += 1
        return True


class Native:
    num_io_tensors, num_optimization_profiles = 2, 1

    def __init__(self, cuda, contexts):
        self._cuda, self._left, self.contexts = cuda, contexts, []

    def get_tensor_name(self, index):
        return ("images", "logits")[index]

    def get_tensor_mode(self, name):
        return {"images": "in", "logits": "out"}[name]

    def get_tensor_dtype(self, name):
        return SimpleNamespace(name="FLOAT")

    def get_tensor_shape(self, name):
        return (-1, SIZE)

    def get_tensor_profile_shape(self, name, index):
        return [(1, SIZE), (8, SIZE), (32, SIZE)]

    def create_execution_context(self):
        if len(self.contexts) == self._left:
            return None
        self.contexts.append(Context(self._cuda))
        return self.contexts[-1]


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


def test_a_session_answers_and_gives_back_arrays_of_its_callers_own(opened):
    (session,), _, _ = opened()
    with session:
        first = session.run(feeds(2, 3.0))["logits"]
        session.run(feeds(2, 5.0))
        np.testing.assert_array_equal(first, np.full((2, SIZE), 6.0))


def test_buffers_grow_to_the_largest_batch_and_are_reused(opened):
    (session,), native, cuda = opened()
    with session:
        for batch in (8, 8, 3, 8, 1):
            np.testing.assert_array_equal(
                session.run(feeds(batch, batch))["logits"], np.full((batch, SIZE), 2 * batch)
            )
        assert len(cuda.taken) == 4  # pinned and on the device, for input and output
        assert native.contexts[0].reshaped == 4  # the second call of eight changed nothing
        assert max(memory.memory.size for memory in cuda.taken) == 8 * SIZE * 4


def test_the_second_call_of_a_shape_is_captured_and_a_moved_buffer_forgets_it(opened):
    (session,), _, _ = opened()
    with session:
        for alive, batch in ((0, 2), (1, 2), (1, 2), (0, 9), (1, 9), (1, 2), (2, 2)):
            np.testing.assert_array_equal(session.run(feeds(batch))["logits"], np.full((batch, SIZE), 2.0))
            assert Graph.alive == alive, batch


def test_many_shapes_do_not_keep_many_graphs(opened):
    (session,), _, _ = opened()
    with session:
        for batch in range(32, 0, -1):
            session.run(feeds(batch))
            session.run(feeds(batch))
        assert Graph.alive <= sessions_of.GRAPHS


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


def test_times_are_taken_of_whole_calls(opened):
    (session,), native, _ = opened()
    with session:
        assert len(session.time(feeds(2), 5)) == 5
        assert native.contexts[0].executed == 5


def test_a_failed_call_is_an_error_and_not_an_old_answer(opened):
    (session,), native, _ = opened()
    with session:
        native.contexts[0].execute_async_v3 = lambda stream: False
        with pytest.raises(WorkbenchError, match="failed while it ran"):
            session.run(feeds(1))
