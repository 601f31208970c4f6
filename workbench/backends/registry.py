"""The backends by name. A runtime is imported when its backend is first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import Refusal, one_of
from .base import Backend


def _onnxruntime() -> Backend:
    from .onnxruntime import OnnxRuntime

    return OnnxRuntime()


def _tensorrt() -> Backend:
    from .tensorrt.backend import tensorrt

    return tensorrt()


def _tensorrt_rtx() -> Backend:
    from .tensorrt.backend import tensorrt_rtx

    return tensorrt_rtx()


#: Backend name -> the function that makes it.
REGISTRY: Mapping[str, Callable[[], Backend]] = {
    "onnxruntime": _onnxruntime,
    "tensorrt": _tensorrt,
    "tensorrt-rtx": _tensorrt_rtx,
}


def backend(name: str) -> Backend:
    """The backend of this name, whether or not its runtime is installed.

    Raises:
        WorkbenchError: no backend has this name.
    """
    one_of("backend", name, tuple(REGISTRY))
    return REGISTRY[name]()


def refused_nodes(backend_name: str, model: Path) -> tuple[Refusal, ...] | None:
    """What a runtime refuses in an ONNX file, or None where the runtime is missing on this machine.

    ONNX Runtime names the first node that it refuses, TensorRT every node whose operator it does not know.

    Raises:
        WorkbenchError: no backend has this name.
    """
    runtime = backend(backend_name)
    return None if runtime.missing() else runtime.refused_nodes(model)
