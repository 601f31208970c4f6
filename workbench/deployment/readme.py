"""The README.md of a bundle, for whoever receives it."""

from __future__ import annotations

import textwrap
from pathlib import Path

from .manifest import Manifest
from .target import is_built, trtexec_command

_TEXT = """\
# {name}: {engine}

A bundle of the ViT workbench {workbench}: {holds}, the FP32 model that it was made from, and what is needed
to check both.

- engine: {engine}, for {min} to {max} images a call
- {built}
- input: {size} x {size} pixels, mean {mean} and std {std} on the 0...255 scale
- classes: {classes}
- golden logits: the engine may be off by {tolerance:g} at most

Compare the digest with the one that the sender gave you by another way, then check and serve:

    workbench bundle verify FOLDER --trust DIGEST
    workbench serve FOLDER --trust DIGEST

A public key serves as well as a digest, where the sender signed the bundle: `--trust public.pem`. The checksums in
`manifest.json` find damage. Only a digest or a key from a source that you trust finds malice.
{build}
## Licence

{licence}
"""
_BUILD = """
## Build the engine

The engine belongs to the machine that runs it, so that this bundle holds the ONNX variant. Until the engine is
built, the original answers. On the target:

    workbench bundle build FOLDER NEW --trust DIGEST
    workbench serve NEW

TensorRT's own builder makes the same plan, from this folder:

    {trtexec}
"""


def readme(manifest: Manifest, folder: Path) -> str:
    """The text; ``folder`` is where the bundle lies now."""
    engine, preprocessing = manifest.engine, manifest.engine.variant.graph.preprocessing
    return _TEXT.format(
        name=manifest.name,
        engine=engine.label,
        workbench=manifest.workbench,
        holds="an engine" if is_built(engine) else "the variant of an engine",
        min=engine.batches.min,
        max=engine.batches.max,
        built=_built_by(manifest),
        size=preprocessing.size,
        mean=preprocessing.mean,
        std=preprocessing.std,
        classes=", ".join(preprocessing.classes) or f"numbered 0 to {manifest.classes - 1}",
        tolerance=manifest.golden.engine_tolerance,
        build="" if is_built(engine) else _build(manifest, folder),
        licence=textwrap.fill(manifest.licence, 116),
    )


def _built_by(manifest: Manifest) -> str:
    engine = manifest.engine
    if not is_built(engine):
        return f"to be built by: {engine.backend}"
    runtime = engine.environment.get("runtime") or f"ONNX Runtime {engine.environment.get('onnxruntime', '')}"
    targets = ", ".join(engine.environment.get("targets") or [])
    return f"built by: {runtime.strip()}{f', for {targets}' if targets else ''}"


def _build(manifest: Manifest, folder: Path) -> str:
    model = manifest.engine.path.relative_to(folder).as_posix()
    trtexec = trtexec_command(manifest.engine, model, "engine.plan")
    return _BUILD.format(trtexec=trtexec)
