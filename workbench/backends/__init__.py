"""Runtimes behind one interface: ONNX Runtime, TensorRT and TensorRT for RTX.

A variant (an ONNX file) and a range of batches come in; an engine comes out, and sessions that run it and time it.
``base`` is the interface, ``hardware`` describes the machine, and each runtime has a module or folder of its own.
"""

from .engines import build_engine, changed_file, open_engine, open_streams
from .registry import REGISTRY, backend, refused_nodes

__all__ = ["REGISTRY", "backend", "build_engine", "changed_file", "open_engine", "open_streams", "refused_nodes"]
