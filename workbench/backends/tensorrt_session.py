"""Sessions on a TensorRT engine: one deserialized engine, and per stream a context, a CUDA stream and buffers."""

from __future__ import annotations

from ..errors import WorkbenchError
from .device import gpus


def open_sessions(flavour, engine, streams):
    if not gpus():
        raise WorkbenchError(f"{engine.label} cannot be opened", why="GPU", remedy="")
