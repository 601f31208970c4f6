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
    "performance.cost": "cost",
    "performance.expected": "expected",
    "performance.profile": "profile_attention",
    "models.roofline": "measure_jax_roof",
    "graphs.export": "export_onnx",
    "graphs.import_": "import_onnx",
    "graphs.analysis.inspect": "inspect",
    "graphs.quantization.recipe": "apply_recipe",
    "graphs.quantization.ranges": "calibrate",
    "graphs.analysis.sensitivity": "sensitivity",
    "graphs.analysis.search": "search_recipe",
    "graphs.analysis.difference": "diff",
    "graphs.analysis.selftest": "check_evaluator",
    "backends": "backend build_engine open_engine",
    "performance.fusion": "fusion predict_fusion",
    "measuring": "measure",
    "statistics.compare": "compare",
    "performance.roofline": "measure_roof",
    "studies.study": "Study",
    "remote.host": "Host",
    "reporting.html": "write_report",
    "performance.explain": "explain",
    "performance.source_map": "layer_sources",
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
