"""Records of engines as TensorRT 8.6 leaves them: one layer for the whole encoder, and perhaps traced kernels."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from tests.backends.vits import variant_of
from workbench.backends.hardware.kernels import Kernel
from workbench.backends.kernel_record import record_kernels
from workbench.records import Batches, Engine, ModelSpec, Recipe

#: ViT-B/32, whose layers ``tests/data/inspector`` holds.
B32 = ModelSpec("B/32", 224, 32, 768, 12, 12, 3072, 1000)
BATCH = 32
LAYERS = Path(__file__).parents[1] / "data" / "inspector" / "8.6.json"


def engine_of_86(folder: Path, recipe: Recipe, kernels: list[Kernel] | None = None) -> Engine:
    """An engine of B/32 that nothing here can run; ``kernels`` were traced at batch 32."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(LAYERS, folder / "layers.json")
    (folder / "engine.plan").write_bytes(b"plan")
    variant = variant_of(folder / "model.onnx", recipe)
    variant = dataclasses.replace(variant, graph=dataclasses.replace(variant.graph, spec=B32))
    engine = Engine("tensorrt", folder / "engine.plan", variant, Batches(1, BATCH, 64), "run", card="SM90")
    if kernels is not None:
        record_kernels(engine, BATCH, [kernel.row() for kernel in kernels])
    return engine
