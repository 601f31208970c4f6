"""Bundles of the tiny classifier, and manifests that somebody changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.tiny import Tiny, variant_of
from workbench.backends import build_engine
from workbench.deployment.manifest import MANIFEST
from workbench.digests import file_digest
from workbench.records import Batches, Engine


def tiny_engine(folder: Path, *, batches: Batches | None = None, **graph) -> Engine:
    """The tiny classifier as an engine of ONNX Runtime."""
    return build_engine(variant_of(Tiny.of().graph(folder, **graph)), "onnxruntime", folder / "w", batches=batches)


def change_manifest(bundle: Path, change: Callable[[dict], object]) -> None:
    """Change a bundle's manifest in place."""
    values = json.loads((bundle / MANIFEST).read_text())
    change(values)
    (bundle / MANIFEST).write_text(json.dumps(values))


def replace_file(bundle: Path, name: str, content: bytes) -> None:
    """Write other bytes into a bundle's file, with the checksum of these bytes beside it, as an attacker would."""
    (bundle / name).write_bytes(content)
    entry = {"sha256": file_digest(bundle / name), "bytes": len(content)}
    change_manifest(bundle, lambda values: values["files"].update({name: entry}))
