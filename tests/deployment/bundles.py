"""Bundles of the tiny classifier, and manifests that somebody changed."""

from __future__ import annotations

from pathlib import Path

from tests.tiny import Tiny, variant_of
from workbench.backends import build_engine
from workbench.records import Batches, Engine


def tiny_engine(folder: Path, *, batches: Batches | None = None, **graph) -> Engine:
    """The tiny classifier as an engine of ONNX Runtime."""
    return build_engine(variant_of(Tiny.of().graph(folder, **graph)), "onnxruntime", folder / "w", batches=batches)
