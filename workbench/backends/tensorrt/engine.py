"""An engine loaded on the device: its weights, shared by the sessions of all its streams."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...dtypes import of_tensorrt
from ...errors import WorkbenchError
from ...records import Engine
from ..base import Tensor
from ..hardware.gpu import device, gpus
from .log import BuildLog
from .versions import VersionAdapter

Shapes = Mapping[str, tuple[int, ...]]


def runtime_of(adapter: VersionAdapter, options: Mapping, logger):
    """The object that loads engines. A version-compatible engine contains a runtime, which is code for the host."""
    runtime = adapter.module.Runtime(logger)
    runtime.engine_host_code_allowed = bool(options.get("version_compatible"))
    return runtime


class LoadedEngine:
    """The part of an engine that its sessions share: the weights on the device, and what the engine takes."""

    def __init__(self, adapter: VersionAdapter, engine: Engine):
        self.adapter, self.engine, self.device = adapter, engine, device()
        #: Frees the contexts, which must go before the weights.
        self.before_free: list[Callable[[], None]] = []
        with self.device.active():
            self.free_before = self.least_free = self.device.free_bytes()
            self.runtime: Any = runtime_of(adapter, engine.options, BuildLog.of(adapter).logger)
            self.native: Any = self._deserialized()
        trt, names = adapter.module, [self.native.get_tensor_name(i) for i in range(self.native.num_io_tensors)]
        modes = {name: self.native.get_tensor_mode(name) for name in names}
        self.inputs = [name for name in names if modes[name] == trt.TensorIOMode.INPUT]
        self.outputs = [name for name in names if modes[name] == trt.TensorIOMode.OUTPUT]
        self.dtypes = {name: numpy_type(self.native.get_tensor_dtype(name).name) for name in names}
        self.takes = {
            name: Tensor(
                self.dtypes[name], tuple(n if n >= 0 else None for n in self.native.get_tensor_shape(name))
            )
            for name in self.inputs
        }
        self.profiles = [self._profile(index) for index in range(self.native.num_optimization_profiles)]

    def _deserialized(self):
        log = BuildLog.of(self.adapter)
        with log.into(os.devnull):
            native = self.runtime.deserialize_cuda_engine(self.engine.path.read_bytes())
        if native is None:
            raise WorkbenchError(
                f"{self.engine.label} cannot be loaded on this {gpus()[0].name} by {self.adapter.title}",
                why=_in_a_line(log.errors[:1]),
                remedy="build it again here: an engine belongs to one version of TensorRT and one kind of GPU; "
                "the options version_compatible and hardware_compatible widen that",
            )
        return native

    def _profile(self, index: int) -> dict[str, tuple]:
        """Smallest and largest shape of every input that has symbolic dimensions."""
        shapes = {}
        for name in self.inputs:
            if -1 in tuple(self.native.get_tensor_shape(name)):
                low, _, high = self.native.get_tensor_profile_shape(name, index)
                shapes[name] = (tuple(low), tuple(high))
        return shapes

    def last_error(self) -> str:
        """TensorRT's newest message about an error, in one line."""
        return _in_a_line(BuildLog.of(self.adapter).errors[-1:])

    def note_memory(self) -> None:
        """Read how much of the device's memory is free; the least counts."""
        self.least_free = min(self.least_free, self.device.free_bytes())

    def free(self) -> None:
        """Free all contexts, then what they share."""
        for release in self.before_free:
            release()
        with self.device.active():
            self.native = self.runtime = None


def _in_a_line(messages: Sequence[str]) -> str:
    return " ".join((messages[0] if messages else "TensorRT gives no reason").split())[:400]


def numpy_type(name: str) -> np.dtype:
    """The NumPy type of a member of TensorRT's DataType; its own ``nptype`` fails on 8.6 beside NumPy 1.24.

    Raises:
        WorkbenchError: NumPy lacks this type.
    """
    kind = of_tensorrt(name)
    try:
        return np.dtype(kind.numpy if kind else name)
    except TypeError as error:
        raise WorkbenchError(
            f"A tensor of TensorRT's type {name} cannot be exchanged with an engine",
            why="NumPy has no such type",
            remedy="export the graph with float32 inputs and outputs",
        ) from error


def profile_for(shapes: Shapes, profiles: Sequence[Mapping[str, tuple]]) -> int:
    """The first optimization profile that takes these shapes.

    Raises:
        WorkbenchError: none does.
    """
    for index, profile in enumerate(profiles):
        if all(_within(shapes[name], *limits) for name, limits in profile.items()):
            return index
    known = "; ".join(f"{name} {low} to {high}" for profile in profiles for name, (low, high) in profile.items())
    raise WorkbenchError(
        f"The engine does not take the shapes {dict(shapes)}",
        why=f"it was built for {known}",
        remedy="give a batch within that, or build for other Batches or image_sizes",
    )


def _within(shape: tuple[int, ...], low: tuple[int, ...], high: tuple[int, ...]) -> bool:
    return all(a <= n <= b for a, n, b in zip(low, shape, high))
