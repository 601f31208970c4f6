"""Times attention, MLP and the rest of a ViT as an engine runs them: a meter for ``profile_attention``."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

import numpy as np

from ..backends import build_engine
from ..errors import refuse_unless
from ..graphs.export import export_onnx
from ..graphs.quantization.recipe import apply_recipe
from ..models import vit
from ..progress import Progress, silent
from ..records import Batches, Engine, ModelSpec, Recipe
from .layers import locate, time_engine
from .parts import split_layers


class EngineMeter:
    """Times the parts of a model as an engine runs them.

    Each resolution is exported with random weights, built and opened once.

    Args:
        backend: a runtime that times its layers, on this machine.
        workspace: a ``Workspace`` or a folder's path.
        batch: images per call.
        recipe: of the engine; one that needs no calibration.
        progress: see ``progress.Progress``.
    """

    def __init__(
        self,
        backend: str,
        workspace,
        batch: int = 1,
        recipe: Recipe | None = None,
        progress: Progress = silent,
    ):
        self._backend, self._workspace, self._batch = backend, workspace, batch
        self._recipe, self._progress = recipe or Recipe(), progress
        self._engines: dict[ModelSpec, Engine] = {}

    def __call__(self, spec: ModelSpec) -> dict[str, list[float]]:
        """The seconds of each part, from the runtime's own profiler, and of single whole calls.

        Raises:
            WorkbenchError: the runtime does not time its layers, or compiled several blocks into one layer.
        """
        if spec not in self._engines:
            self._engines[spec] = self._build(spec)
        rows, calls = time_engine(self._engines[spec], self._batch)
        rows = locate(rows)
        for row in rows:
            self._check_inside(row)
        parts = split_layers(rows, median(calls)).seconds
        return {**{part: [seconds] for part, seconds in parts.items()}, "whole": calls}

    def _check_inside(self, row: Mapping) -> None:
        refuse_unless(
            " to " not in row["role"],
            f"The layers of {self._backend} do not show what is attention",
            why=f"it compiled {row['role']} into one layer, {row['name'][:80]}",
            remedy="profile with onnxruntime or jax, or with TensorRT 10 and later, whose layers have names",
        )

    def _build(self, spec: ModelSpec) -> Engine:
        few = np.random.default_rng(0).standard_normal((2, spec.image_size, spec.image_size, 3), dtype=np.float32)
        graph = export_onnx(spec, vit.init(spec), self._workspace, images=few, progress=self._progress)
        variant = apply_recipe(graph, self._recipe, self._workspace)
        only = Batches(self._batch, self._batch, self._batch)
        return build_engine(variant, self._backend, self._workspace, batches=only, progress=self._progress)
