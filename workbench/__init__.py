"""The ViT workbench: from a JAX Vision Transformer to the fastest engine that keeps its accuracy.

Names are imported when they are first used, so that ``import workbench`` is fast and works where only NumPy and
one runtime are installed.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_HOMES = {
    "records": "ModelSpec Preprocessing Calibration Recipe Parity Graph Variant Batches Engine Measurement",
    "errors": "WorkbenchError Cancelled",
    "workspace": "Workspace",
    "datasets": "ImageSet images normalise",
    "datasets.fetch": "fetch_images fetch_checkpoint",
    "models.vit": "model_spec logits",
    "models.checkpoint": "load_checkpoint save_checkpoint",
    "models.cost": "cost",
    "models.expected": "expected",
    "models.profiling": "profile_attention",
    "models.roof": "measure_jax_roof",
    "graphs.export": "export_onnx",
    "graphs.imported": "import_onnx",
    "graphs.inspect": "inspect",
    "graphs.recipes": "apply_recipe",
    "graphs.calibrate": "calibrate",
    "graphs.sensitivity": "sensitivity",
    "graphs.search": "search_recipe",
    "graphs.difference": "diff",
    "graphs.selftest": "check_evaluator",
    "backends": "backend build_engine open_engine",
    "backends.fusion": "fusion predict_fusion",
    "measuring": "measure",
    "measuring.compare": "compare",
    "measuring.roofline": "measure_roof",
    "studies.study": "Study",
    "studies.hosts": "Host",
    "studies.report": "write_report",
    "studies.explain": "explain",
    "studies.sources": "layer_sources",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
