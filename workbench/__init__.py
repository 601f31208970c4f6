"""The ViT workbench: from a JAX Vision Transformer to the fastest engine that keeps its accuracy.

Names are imported when they are first used, so that ``import workbench`` is fast and works where only NumPy and
one runtime are installed.
"""

from __future__ import annotations

from .lazy import lazy_names

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "records": "ModelSpec Preprocessing Calibration Recipe Parity Graph Variant Batches Engine Measurement",
        "errors": "WorkbenchError Cancelled",
        "workspace": "Workspace",
        "datasets": "ImageSet images normalise",
        "datasets.published": "fetch_images fetch_checkpoint",
        "datasets.published_preprocessing": "read_preprocessing",
        "models.sizes": "model_spec",
        "models.vit": "logits",
        "models.checkpoint": "load_checkpoint save_checkpoint",
        "performance.cost": "cost",
        "performance.expected": "expected",
        "performance.attention_profile": "profile_attention",
        "graphs.export": "export_onnx trace_onnx",
        "graphs.import_": "import_onnx",
        "graphs.any_model": "load_graph",
        "graphs.evaluation_images": "evaluation_images",
        "graphs.analysis.inspect": "inspect",
        "graphs.quantization.recipe": "apply_recipe",
        "graphs.quantization.ranges": "calibrate",
        "graphs.analysis.sensitivity": "sensitivity",
        "graphs.analysis.search": "search_recipe",
        "graphs.analysis.difference": "diff",
        "graphs.analysis.selftest": "check_evaluator",
        "backends": "backend build_engine open_engine",
        "performance.fusion": "fusion",
        "performance.products": "products",
        "performance.engine_kernels": "kernels",
        "performance.kernel_findings": "engine_findings",
        "performance.predicted_fusion": "predict_fusion",
        "measuring": "measure",
        "measuring.repeated_builds": "repeat_builds repeat_builds_together",
        "statistics.compare": "compare",
        "statistics.builds": "compare_builds",
        "performance.roofline": "measure_roof measure_jax_roof",
        "studies.study": "Study",
        "studies.tuning": "tune",
        "studies.recorded": "recorded",
        "studies.kept_engines": "find_or_build_engine",
        "remote.host": "Host",
        "reporting.html": "write_report",
        "deployment.bundle": "export_bundle",
        "deployment.verify": "verify_bundle",
        "deployment.service": "deploy",
        "performance.explain": "explain",
        "performance.source_map": "layer_sources",
    },
)
