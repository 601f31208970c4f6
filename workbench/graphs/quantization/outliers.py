"""Outlier channels, which make quantization hard, put into a graph that computes the same: for lessons and tests.

Large published ViTs have a few LayerNorm channels far larger than the others (FQ-ViT, arXiv:2111.13824, figure 2);
a small model trained for minutes has none. This puts them into any graph without changing what it computes.
Label such a model wherever its numbers are shown.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ...records import Graph
from ...workspace import Workspace
from .. import model_file
from ..structure.values import elements
from .prepare import prepare
from .smoothquant import fold, foldable

TOOLS = ("onnx", "onnx-ir", "numpy")


def with_norm_outliers(graph: Graph, workspace, *, factor: float = 50.0, channels: int = 2, seed: int = 0) -> Graph:
    """Make a few channels of each block's LayerNorms larger, and the weights that read them smaller by that factor.

    Where a LayerNorm's output is quantized, INT8 spends its 256 steps on those channels and has few left for the
    others. SmoothQuant reverses it.

    Args:
        graph: a float32 graph.
        workspace: a ``Workspace`` or a folder's path.
        factor: how much larger.
        channels: how many channels of each LayerNorm.
        seed: which channels.

    Raises:
        WorkbenchError: no LayerNorm stands directly before linear layers.
    """

    def make(folder: Path, key: str) -> Graph:
        model, rng = prepare(graph), np.random.default_rng(seed)
        for norm, products in foldable(model).items():
            fold(model, norm, products, 1 / _scale(norm, factor, channels, rng), "outliers")
        path = model_file.save(model, folder)
        note = f"{channels} channels of each LayerNorm are {factor:g} times larger, for a lesson"
        return dataclasses.replace(graph, path=path, digest=key, notes=(*graph.notes, note))

    inputs = (graph.digest, factor, channels, seed, "outliers")
    return Workspace.of(workspace).artefact("graph", Graph, inputs, make, tools=TOOLS)


def _scale(norm: ir.Node, factor: float, channels: int, rng: np.random.Generator) -> np.ndarray:
    width = elements(norm.inputs[1]).size
    scale = np.ones(width, np.float32)
    scale[rng.choice(width, channels, replace=False)] = factor
    return scale
