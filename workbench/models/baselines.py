"""The model itself as sessions: the baselines in JAX and PyTorch that every speed-up is quoted against."""

from __future__ import annotations

import abc
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import dtypes
from ..backends.base import Session, check_feeds
from ..backends.hardware.memory import MemoryMeter
from ..errors import WorkbenchError, one_of
from ..records import ModelSpec
from . import vit
from .tree import join_qkv

#: NumPy's names of the types that a model can compute in.
COMPUTE_TYPES = tuple(dtypes.TYPES[name].numpy for name in dtypes.FLOATS)


def open_jax(spec: ModelSpec, params: dict, *, dtype: str = "float32") -> Session:
    """The Flax model under ``jax.jit`` on JAX's default device.

    Args:
        spec: the model's shape.
        params: its parameters; q, k and v are joined once, as the exported graphs have them.
        dtype: the type of parameters and activations. On a GPU, JAX multiplies float32 in TF32 by default.

    Raises:
        WorkbenchError: an unknown type, or parameters of another model.
    """
    one_of("type for a JAX session", dtype, COMPUTE_TYPES)
    vit.check_parameters(spec, params)
    return JaxSession(spec, params, dtype)


def open_torch(spec: ModelSpec, params: dict, *, dtype: str = "float32", compiled: bool = False) -> Session:
    """The same model in plain PyTorch, on the GPU where PyTorch has one.

    Args:
        spec: the model's shape.
        params: its parameters.
        dtype: the type of parameters and activations.
        compiled: whether ``torch.compile`` compiles it, anew for each batch size; else it is eager.

    Raises:
        WorkbenchError: PyTorch is not installed, an unknown type, or parameters of another model.
    """
    one_of("type for a PyTorch session", dtype, COMPUTE_TYPES)
    vit.check_parameters(spec, params)
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise WorkbenchError(
            "The model cannot be opened in PyTorch", why=str(error), remedy="pip install torch, or use open_jax"
        ) from error
    return TorchSession(spec, params, dtype, compiled)


class _ModelSession(Session):
    """Checks feeds, and times a call until its result is in host memory."""

    _model: Callable[..., Any] | None = None

    def __init__(self, spec: ModelSpec):
        self._inputs = vit.input_of(spec)
        self._meter = MemoryMeter()

    @abc.abstractmethod
    def _logits(self, images: np.ndarray) -> np.ndarray:
        """One call; it ends when the logits are in host memory."""

    @abc.abstractmethod
    def _on_device(self, images: np.ndarray) -> Callable[[], None]:
        """A call whose images are on the device already; it ends when the logits are there too."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Compute ``{"logits": (N, classes)}`` from ``{"images": (N, H, W, 3)}``, float32."""
        self._check(feeds)
        return {"logits": self._logits(feeds["images"])}

    def time(self, feeds: Mapping[str, np.ndarray], repeats: int) -> list[float]:
        """Seconds of each call; in JAX the first call with a new batch size includes compiling."""
        self._check(feeds)
        seconds = []
        for _ in range(repeats):
            begin = time.perf_counter()
            self._logits(feeds["images"])
            seconds.append(time.perf_counter() - begin)
        return seconds

    def compute(self, feeds: Mapping[str, np.ndarray], more: Callable[[], bool]) -> list[float]:
        """When the first call with images on the device began, and when each was completed."""
        self._check(feeds)
        call = self._on_device(feeds["images"])
        call()  # the first one may compile
        moments = [time.perf_counter()]
        while more():
            call()
            moments.append(time.perf_counter())
        return moments

    def close(self) -> None:
        """Release the model."""
        self._model = None

    def _check(self, feeds: Mapping[str, np.ndarray]) -> None:
        self._opened()
        check_feeds(feeds, self._inputs)

    def _opened(self) -> Callable[..., Any]:
        if self._model is None:
            raise WorkbenchError(
                "The session is closed",
                why="close() was called on it",
                remedy="use it inside the with block, or open the model again",
            )
        return self._model


class JaxSession(_ModelSession):
    """The Flax model. XLA compiles it anew for each batch size at its first call."""

    def __init__(self, spec: ModelSpec, params: dict, dtype: str):
        super().__init__(spec)
        joined = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), join_qkv(params))
        forward = jax.jit(lambda p, x: vit.forward(spec, p, x.astype(dtype)).astype(jnp.float32))
        self._model = functools.partial(forward, joined)
        self.environment = {"runtime": f"JAX {jax.__version__}", "device": jax.devices()[0].device_kind}

    def _logits(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(self._opened()(images))

    def _on_device(self, images: np.ndarray) -> Callable[[], None]:
        forward, there = self._opened(), jax.device_put(images)
        return lambda: jax.block_until_ready(forward(there))

    def memory(self) -> int:
        """Peak bytes on the device; on the CPU, how far this process's memory rose since the session was opened."""
        statistics = jax.devices()[0].memory_stats()
        return statistics["peak_bytes_in_use"] if statistics else self._meter.peak()


class TorchSession(_ModelSession):
    """The plain PyTorch model, eager or compiled."""

    def __init__(self, spec: ModelSpec, params: dict, dtype: str, compiled: bool):
        import torch

        from .torch_vit import torch_module

        super().__init__(spec)
        self._torch = torch
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._dtype = getattr(torch, dtype)
        module = torch_module(spec, params).to(self._device, self._dtype)
        self._model = torch.compile(module, dynamic=False) if compiled else module
        on_gpu = self._device.type == "cuda"
        name = torch.cuda.get_device_name(self._device) if on_gpu else "cpu"
        mode = "compiled" if compiled else "eager"
        self.environment = {"runtime": f"PyTorch {torch.__version__}, {mode}", "device": name}

    def _logits(self, images: np.ndarray) -> np.ndarray:
        with self._torch.inference_mode():
            tensor = self._torch.from_numpy(images).to(self._device, self._dtype)
            return self._opened()(tensor).float().cpu().numpy()

    def _on_device(self, images: np.ndarray) -> Callable[[], None]:
        torch, forward = self._torch, self._opened()
        there = torch.from_numpy(images).to(self._device, self._dtype)

        def call() -> None:
            with torch.inference_mode():
                forward(there).float()
                if self._device.type == "cuda":
                    torch.cuda.synchronize(self._device)

        return call

    def memory(self) -> int:
        """Peak bytes on the GPU; on the CPU, how far this process's memory rose since the session was opened."""
        if self._device.type == "cuda":
            return self._torch.cuda.max_memory_allocated(self._device)
        return self._meter.peak()
