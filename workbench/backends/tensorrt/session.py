"""Sessions on a TensorRT engine: an execution context, a CUDA stream and buffers for each of its streams."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ...errors import WorkbenchError, refuse_unless
from ...records import Engine
from ..base import CLOSED, Session, check_feeds
from ..hardware.energy import gpu_joules
from ..hardware.gpu import Buffer, CudaGraph, gpus
from ..hardware.kernel_trace import trace
from .engine import LoadedEngine, Shapes, profile_for
from .layers import layers_of, timed_rows
from .slot import Slot
from .traced_call import ROOT, save_call
from .versions import VersionAdapter

#: Calls that a layer's time is the median of, and calls before them that are left out.
PROFILED, WARMUP = 20, 3
#: Calls that are enqueued at the same time while compute is counted: the device has one to go on with.
IN_FLIGHT = 2
#: Batches of ``run_all`` in flight: one is computed, one travels to the device, one is filled by the host.
RING = 3


def open_sessions(adapter: VersionAdapter, engine: Engine, streams: int) -> tuple[Session, ...]:
    """Deserialize an engine once and give it as many contexts as there are streams.

    Raises:
        WorkbenchError: the engine was built for another GPU or by another version, or does not fit in memory.
    """
    loaded, sessions = LoadedEngine(adapter, engine), []
    try:
        with loaded.device.active():
            for index in range(streams):
                sessions.append(TensorRTSession(loaded, owner=index == 0))
                loaded.before_free.append(sessions[-1].release)
    except BaseException:
        loaded.free()
        raise
    return tuple(sessions)


class TensorRTSession(Session):
    """One context with a CUDA stream and buffers of its own. Made inside ``device.active()``.

    Args:
        loaded: the engine and its weights, shared by all streams.
        owner: whether closing this session frees them.
    """

    def __init__(self, loaded: LoadedEngine, *, owner: bool):
        cuda, adapter, options = loaded.device.cuda, loaded.adapter, loaded.engine.options
        self._loaded: LoadedEngine | None = loaded
        self._owner, self._label = owner, loaded.engine.label
        self._cache = loaded.engine.path.with_name("runtime.cache")
        #: The execution context, and on RTX the cache of the kernels that it compiled.
        self._context: Any
        self._compiled: Any
        self._context, self._compiled = adapter.context_of(loaded.native, options, self._cache)
        refuse_unless(
            self._context is not None,
            f"{self._label} has no room for another stream",
            why="TensorRT made no execution context; the device's memory is the usual reason",
            remedy="open fewer streams, or build for smaller batches",
        )
        self._stream: Any = cuda.Stream()
        self._copies: Any = cuda.Stream()
        self._slots: list[Slot] = []
        self._free_slots: list[Slot] = []
        #: The buffers whose addresses the context has.
        self._bound: Mapping[str, Buffer] | None = None
        self._buffers = {name: Buffer(loaded.device, dtype) for name, dtype in loaded.dtypes.items()}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._profile: int | None = None
        #: The graph of each set of buffers for the present shapes; None where these ran once, without a graph.
        self._graphs: dict[int, CudaGraph | None] = {}
        # RTX captures by itself
        self._captures = options.get("cuda_graph", True) and not adapter.is_rtx
        self.environment = {
            "runtime": adapter.title,
            "gpu": gpus()[0].name,
            "driver": gpus()[0].driver,
            "cuda_graph": bool(options.get("cuda_graph", True)),
        }

    # ---- the interface -------------------------------------------------------------------------------------------

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Compute all outputs for one batch."""
        loaded = self._checked(feeds)
        with loaded.device.active():
            return self._answer(loaded, feeds)

    def time(self, feeds: Mapping[str, np.ndarray], repeats: int) -> list[float]:
        """Seconds of each call by the host's clock, the copies into and out of pinned memory included."""
        loaded = self._checked(feeds)
        seconds, clock = [], time.perf_counter
        with loaded.device.active():
            for _ in range(repeats):
                begin = clock()
                self._answer(loaded, feeds)
                seconds.append(clock() - begin)
        return seconds

    def run_all(self, batches: Iterable[Mapping[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        """The outputs of many batches, in their order.

        While the device computes one batch, the next one travels on a stream of its own, and the host fills the
        pinned memory of the one after. ``run`` may be called meanwhile: it has buffers of its own.
        """
        flying: deque[Slot] = deque()
        try:
            for feeds in batches:
                if len(flying) == RING:
                    yield self._collect(flying.popleft())
                flying.append(self._submit(feeds))
            while flying:
                yield self._collect(flying.popleft())
        finally:
            self._abandon(flying)

    def compute(self, feeds: Mapping[str, np.ndarray], more: Callable[[], bool]) -> list[float]:
        """When the first call with its batch on the device began, and when each was completed.

        The next call is enqueued before the device has finished this one, so that it never waits for the host.
        """
        loaded = self._checked(feeds)
        with loaded.device.active():
            self._prepare(loaded, feeds, self._buffers)
            for _ in range(2):  # the second one records the CUDA graph
                self._call(loaded)
            free = [loaded.device.cuda.Event() for _ in range(IN_FLIGHT)]
            enqueued, moments = deque(), [time.perf_counter()]
            while more():
                if not free:
                    free.append(_waited(enqueued.popleft(), moments))
                self._compute()
                enqueued.append(free.pop().record(self._stream))
            while enqueued:
                free.append(_waited(enqueued.popleft(), moments))
            del free  # while the context is current
        return moments

    def device_time(self, feeds: Mapping[str, np.ndarray], repeats: int) -> list[float]:
        """Seconds of compute alone between two CUDA events, copies left out."""
        loaded = self._checked(feeds)
        with loaded.device.active():
            begin, end = loaded.device.cuda.Event(), loaded.device.cuda.Event()
            self._prepare(loaded, feeds, self._buffers)
            self._call(loaded)
            seconds = []
            for _ in range(repeats):
                begin.record(self._stream)
                self._compute()
                end.record(self._stream)
                end.synchronize()
                seconds.append(end.time_since(begin) * 1e-3)
            del begin, end  # while the context is current
        return seconds

    def layers(self, feeds: Mapping[str, np.ndarray]) -> list[dict]:
        """Rows ``name``, ``type``, ``seconds``, ``block``, ``role`` in the order of execution.

        They are timed in a context of their own, because a profiler waits after every layer; seconds are medians. A
        layer that TensorRT compiled from a whole region has no block; its ``role`` names the first and last part.
        """
        loaded = self._checked(feeds)
        with loaded.device.active():
            self._prepare(loaded, feeds, self._buffers)
            context, _ = loaded.adapter.context_of(loaded.native, {"cuda_graph": False}, self._cache)
            times = _profiled(loaded.adapter.module, context, self._bind, self._stream)
            del context
        return timed_rows([(name, median(seconds)) for name, seconds in times], layers_of(loaded.engine))

    def kernels(self, feeds: Mapping[str, np.ndarray]) -> list[dict] | None:
        """Every kernel of one call without a CUDA graph; None where neither cupti-python nor ncu is here.

        Raises:
            WorkbenchError: ncu is here, but lists no kernels.
        """
        loaded = self._checked(feeds)

        def call() -> None:
            with loaded.device.active():
                self._prepare(loaded, feeds, self._buffers)
                self._enqueue()
                self._stream.synchronize()

        with tempfile.TemporaryDirectory() as folder:
            found = trace(call, lambda: save_call(loaded.engine, feeds, Path(folder)), ROOT)
        return None if found is None else [kernel.row() for kernel in found]

    def joules(self) -> float | None:
        """Energy of the GPU, through NVML."""
        return gpu_joules()

    def memory(self) -> int:
        """The most of the device's memory that was taken since before the engine was loaded, in bytes.

        The contexts of all streams count, and so does what other processes took meanwhile.
        """
        loaded = self._open()
        return max(0, loaded.free_before - loaded.least_free)

    def close(self) -> None:
        """Free this stream; when it is the first, the others and the weights as well."""
        if self._owner and self._loaded is not None:
            self._loaded.free()
        else:
            self.release()

    def release(self) -> None:
        """Free the context, the stream and the buffers."""
        if self._loaded is None:
            return
        with self._loaded.device.active():
            self._copies.synchronize()
            self._forget_graphs()
            if self._compiled is not None:
                with contextlib.suppress(OSError):  # without the cache RTX compiles again, which costs only time
                    self._cache.write_bytes(bytes(self._compiled.serialize()))
            self._context = self._compiled = None
            for buffer in self._buffers.values():
                buffer.free()
            for slot in self._slots:
                slot.free()
            self._slots, self._free_slots, self._bound = [], [], None
            self._stream = self._copies = None
        self._loaded = None

    def _open(self) -> LoadedEngine:
        if self._loaded is None:
            raise CLOSED.error("The session is closed")
        return self._loaded

    def _checked(self, feeds: Mapping[str, np.ndarray]) -> LoadedEngine:
        loaded = self._open()
        check_feeds(feeds, loaded.takes)
        return loaded

    def _prepare(
        self, loaded: LoadedEngine, feeds: Mapping[str, np.ndarray], buffers: Mapping[str, Buffer]
    ) -> None:
        """Set shapes, buffers and addresses for these feeds, and copy the feeds into pinned memory."""
        shapes = {name: feeds[name].shape for name in loaded.inputs}
        if shapes != self._shapes or self._bound is not buffers:
            self._reshape(loaded, shapes, buffers)
        for name in loaded.inputs:
            np.copyto(buffers[name].host, feeds[name])

    def _reshape(self, loaded: LoadedEngine, shapes: Shapes, buffers: Mapping[str, Buffer]) -> None:
        self._bound = None  # known again once everything below has worked
        if shapes != self._shapes:
            self._shapes = {}
            # A graph holds for its shapes. After a change TensorRT brings itself up to date in the next call, which
            # fails while it is recorded (seen on 8.6), also where the session had these shapes before.
            self._forget_graphs()  # waits, as a batch in flight has the old shapes
            profile = profile_for(shapes, loaded.profiles)
            if profile != self._profile:
                self._context.set_optimization_profile_async(profile, self._stream.handle)
                self._stream.synchronize()
                self._profile = profile
            for name, shape in shapes.items():
                self._context.set_input_shape(name, shape)
        moved = [buffers[name].fit(shape) for name, shape in shapes.items()]
        moved += [buffers[name].fit(tuple(self._context.get_tensor_shape(name))) for name in loaded.outputs]
        if any(moved):
            self._forget_graphs()  # they hold the old addresses
            loaded.note_memory()
        self._shapes, self._bound = dict(shapes), buffers
        self._bind(self._context)

    def _bind(self, context) -> None:
        """Give a context the shapes and the profile of this session, and the buffers of the newest call."""
        if context is not self._context:
            context.set_optimization_profile_async(self._profile, self._stream.handle)
            self._stream.synchronize()
            for name, shape in self._shapes.items():
                context.set_input_shape(name, shape)
        for name, buffer in (self._bound or self._buffers).items():
            context.set_tensor_address(name, buffer.address)

    # ---- batches in flight ---------------------------------------------------------------------------------------

    def _submit(self, feeds: Mapping[str, np.ndarray]) -> Slot:
        """Fill a free slot, and enqueue its copies and its compute."""
        loaded = self._checked(feeds)
        with loaded.device.active():
            if not self._free_slots:
                self._free_slots.append(Slot(loaded))
                self._slots.append(self._free_slots[-1])
            slot = self._free_slots[-1]  # it stays free where the feeds or the device fail
            self._prepare(loaded, feeds, slot.buffers)
            for name in loaded.inputs:
                slot.buffers[name].upload(self._copies)
            slot.uploaded.record(self._copies)
            self._stream.wait_for_event(slot.uploaded)
            self._compute()
            for name in loaded.outputs:  # on the copies' stream they would hold up the next upload
                slot.buffers[name].download(self._stream)
            slot.done.record(self._stream)
            return self._free_slots.pop()

    def _collect(self, slot: Slot) -> dict[str, np.ndarray]:
        """Wait for a slot's outputs, and free it."""
        loaded = self._open()
        with loaded.device.active():
            slot.done.synchronize()
            outputs = {name: slot.buffers[name].host.copy() for name in loaded.outputs}
        self._free_slots.append(slot)
        return outputs

    def _abandon(self, flying: Iterable[Slot]) -> None:
        """Wait until the device has finished, and free the slots that nobody collects."""
        if self._loaded is None:
            return
        with self._loaded.device.active():
            self._copies.synchronize()
            self._stream.synchronize()
        self._free_slots.extend(flying)

    # ---- one call ------------------------------------------------------------------------------------------------

    def _answer(self, loaded: LoadedEngine, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Compute all outputs for these feeds, from the caller's arrays to arrays of the caller's own."""
        self._prepare(loaded, feeds, self._buffers)
        self._call(loaded)
        return {name: self._buffers[name].host.copy() for name in loaded.outputs}

    def _call(self, loaded: LoadedEngine) -> None:
        """Copy the inputs to the device, compute, copy the outputs back, and wait."""
        for name in loaded.inputs:
            self._buffers[name].upload(self._stream)
        self._compute()
        for name in loaded.outputs:
            self._buffers[name].download(self._stream)
        self._stream.synchronize()

    def _compute(self) -> None:
        """Enqueue the engine, from the second call in a row with the same shapes on as a CUDA graph."""
        key = id(self._bound)
        graph = self._graphs.get(key)
        if graph is not None:
            graph.launch()
            return
        if self._captures and key in self._graphs:
            try:
                self._stream.synchronize()
                self._graphs[key] = graph = CudaGraph(self._stream, self._enqueue)
                graph.launch()
                return
            except (RuntimeError, WorkbenchError) as error:  # an engine that waits for the host inside, for example
                self._captures = False
                self.environment = {**self.environment, "cuda_graph": f"refused: {error}"}
        self._graphs.setdefault(key, None)
        self._enqueue()

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise WorkbenchError(
                f"{self._label} failed while it ran",
                why=self._loaded.last_error() if self._loaded else "the session is closed",
                remedy="run it in a fresh process; a driver that met an error keeps it until the process ends",
            )

    def _forget_graphs(self) -> None:
        self._stream.synchronize()  # one of them may be running
        for graph in self._graphs.values():
            if graph is not None:
                graph.free()
        self._graphs.clear()


def _waited(event, moments: list[float]):
    """The event once it has happened; the moment is appended."""
    event.synchronize()
    moments.append(time.perf_counter())
    return event


def _profiled(trt, context, bind, stream) -> list[tuple[str, list[float]]]:
    """Every layer's name and its seconds in each profiled call, in the order of execution."""

    class Times(trt.IProfiler):
        def __init__(self):
            trt.IProfiler.__init__(self)
            self.calls = []

        def report_layer_time(self, name, milliseconds):
            self.calls[-1].append((name, milliseconds * 1e-3))

    times = Times()
    bind(context)
    context.profiler = times
    for _ in range(WARMUP + PROFILED):
        times.calls.append([])
        context.execute_async_v3(stream.handle)
        stream.synchronize()
    kept = times.calls[WARMUP:]
    return [(name, [call[i][1] for call in kept]) for i, (name, _) in enumerate(kept[0])]
