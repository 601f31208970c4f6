"""Outlier channels, which make quantization hard, put into a graph that has none: for lessons and tests.

Large published ViTs have a few channels far larger than the others, at the inputs of LayerNorm (FQ-ViT,
arXiv:2111.13824, figure 2) and behind its scale; a small model trained for minutes has none. ``with_norm_outliers``
puts them behind LayerNorm, where linear layers read them, and ``with_residual_outliers`` into the residual stream,
which LayerNorm and the additions read. Label such a model wherever its numbers are shown.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ...digests import digest
from ...errors import WorkbenchError, refuse_unless
from ...places import block_name, place_of
from ...progress import silent
from ...records import Graph
from ...workspace import Workspace
from .. import model_file
from ..structure.builder import constant
from ..structure.values import array, constant_operand, elements, input_of, only_reader, tensor_name
from .activations import batches, open_model
from .images import graph_input
from .prepare import prepare
from .qdq_sites import linear_products, place_name
from .smoothquant import fold, foldable

TOOLS = ("onnxruntime", "onnx", "onnx-ir", "numpy")
#: What LayerNorm adds to the variance where its node does not say.
EPSILON = 1e-5


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


def with_residual_outliers(
    graph: Graph, workspace, images: np.ndarray, *, factor: float = 300.0, seed: int = 0
) -> Graph:
    """Give the residual stream two channels that are large at every token, and let each LayerNorm undo them.

    Published models have such channels from an early block on, with nearly the same value everywhere ("massive
    activations", Sun et al., 2024, arXiv:2402.17762). Here the first block's MLP adds them, one positive and one
    negative. They dominate the variance by which each later LayerNorm divides; its scale makes up for what that is
    on the median token, and its bias takes the two constants away. What cannot be undone is that the variance of
    other tokens counts less than before, so the model computes *nearly* the same: compare it in FP32 first.

    Args:
        graph: a float32 graph with pre-norm blocks.
        workspace: a ``Workspace`` or a folder's path.
        images: (N, H, W, 3) float32, normalised, on which the median is taken; 16 are enough.
        factor: how much larger than the typical number of the stream behind the first block.
        seed: which channels.

    Raises:
        WorkbenchError: the first block has no MLP with a bias, or no LayerNorm follows it.
    """
    given = graph_input(graph, images)

    def make(folder: Path, key: str) -> Graph:
        model = prepare(graph)
        norms, bias = _later_norms(model), _bias_of_first_mlp(model)
        spread = _typical_spread(graph, [tensor_name(input_of(norm, 0)) for norm in norms], given)
        added = np.zeros(elements(norms[0].inputs[1]).size, np.float32)
        channels = np.random.default_rng(seed).choice(added.size, 2, replace=False)
        added[channels] = factor * spread[0] * np.array([1, -1])
        index = next(i for i, value in enumerate(bias.inputs) if array(value) is not None)
        changed = elements(bias.inputs[index]) + added
        bias.replace_input_with(index, constant(model, f"{input_of(bias, index).name}/outliers", changed))
        for norm, before in zip(norms, spread):
            _undo(model, norm, before, added)
        path = model_file.save(model, folder)
        note = f"two channels of the residual stream are {factor:g} times larger, for a lesson"
        return dataclasses.replace(graph, path=path, digest=key, notes=(*graph.notes, note))

    inputs = (graph.digest, digest(given), factor, seed, "residual outliers")
    return Workspace.of(workspace).artefact("graph", Graph, inputs, make, tools=TOOLS)


def _later_norms(model: ir.Model) -> list[ir.Node]:
    """The LayerNorms that read the stream behind the first block, in the order of computation."""
    found = []
    for node in model.graph:
        place = place_of(node.name or "") if node.op_type == "LayerNormalization" else None
        if place and place.role in ("norm1", "norm2", "norm") and place.block != block_name(0):
            found.append(node)
    refuse_unless(
        bool(found) and all(len(norm.inputs) == 3 for norm in found),
        "This graph has no LayerNorm that could undo outliers",
        why="a LayerNorm with scale and bias behind the first block was looked for",
        remedy="take a graph whose blocks begin with LayerNorm",
    )
    return found


def _bias_of_first_mlp(model: ir.Model) -> ir.Node:
    """The addition of the bias of the first block's second MLP layer."""
    for product in linear_products(model):
        reader = only_reader(product.outputs[0]) if place_name(product) == f"{block_name(0)}/fc2" else None
        if reader is not None and reader.op_type == "Add" and constant_operand(reader):
            return reader
    raise WorkbenchError(
        "The first block has no MLP whose bias could add outliers",
        why=f"an addition of a constant behind {block_name(0)}/fc2 was looked for",
        remedy="take a graph whose MLP has biases",
    )


def _typical_spread(graph: Graph, names: list[str], images: np.ndarray) -> list[float]:
    """The median over all tokens of the standard deviation of each tensor's channels."""
    session = open_model(prepare(graph), list(dict.fromkeys(names)))
    parts = list(batches(graph, session, images, silent, "outliers"))
    return [float(np.median(np.concatenate([part[name].std(axis=-1).ravel() for part in parts]))) for name in names]


def _undo(model: ir.Model, norm: ir.Node, before: float, added: np.ndarray) -> None:
    """Let a LayerNorm answer on the median token as if nothing had been added to what it reads."""
    after = np.sqrt(before**2 + (added**2).mean() + norm.attributes.get_float("epsilon", EPSILON))
    scale = elements(norm.inputs[1]) * np.float32(after / before)
    bias = elements(norm.inputs[2]) - scale * added / np.float32(after)
    for index, changed in ((1, scale), (2, bias)):
        norm.replace_input_with(index, constant(model, f"{input_of(norm, index).name}/outliers", changed))
