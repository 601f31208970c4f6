"""SmoothQuant: move the outliers of LayerNorm's channels from activations, where they hurt, into weights.

A channel that is a hundred times larger than the others leaves them a hundredth of the 8-bit steps. Dividing it by
s in LayerNorm's gamma and beta and multiplying the next weights' rows by s changes no output. For channel j,
``s_j = max|x_j|^α / max|w_j|^(1-α)`` (Xiao et al., 2023, arXiv:2211.10438, equation 4).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ...errors import refuse_unless
from ...progress import Progress
from ...records import Calibration, Graph
from ...workspace import Workspace
from .. import model_file
from ..structure.builder import constant
from ..structure.values import array, elements, input_of, tensor_name
from .activations import batches, open_model
from .images import Images, calibration_images
from .prepare import prepare
from .qdq_sites import linear_products

TOOLS = ("onnxruntime", "onnx", "onnx-ir", "numpy")
#: A factor is never smaller (the paper's own code clamps at 1e-5), so that dividing by it cannot overflow.
LEAST_FACTOR = 1e-5


def smoothed(
    graph: Graph, alpha: float, calibration: Calibration | np.ndarray, workspace: Workspace, progress: Progress
) -> Graph:
    """The same function with LayerNorm's outliers moved into the weights that follow.

    Args:
        graph: a float32 graph.
        alpha: 0 leaves the activations alone, 1 makes all their channels equally large.
        calibration: which images, or the images themselves, normalised.
        workspace: where the smoothed graph is kept.
        progress: stage ``smooth``, counted in images.

    Raises:
        WorkbenchError: no LayerNorm stands directly before linear layers; or the images do not fit the graph.
    """
    images = calibration_images(graph, calibration, progress)

    def make(folder: Path, key: str) -> Graph:
        largest = _channel_extremes(graph, images, progress)
        model = prepare(graph)
        for norm, products in foldable(model).items():
            amax = largest[tensor_name(norm.outputs[0])]
            fold(model, norm, products, _factors(amax, _largest_in_rows(products), alpha), "smooth")
        path = model_file.save(model, folder)
        note = f"smoothed with alpha {alpha:g} over {len(images)} images"
        return dataclasses.replace(graph, path=path, digest=key, notes=(*graph.notes, note))

    return workspace.artefact("graph", Graph, (graph.digest, alpha, images.digest), make, tools=TOOLS)


def foldable(model: ir.Model) -> dict[ir.Node, list[ir.Node]]:
    """LayerNorms with constant gamma and beta that only linear layers read, and those layers.

    Exporters let norms of equal gamma or beta share one tensor; each gets one of its own.
    """
    linear = set(linear_products(model))
    found = {}
    for norm in model.graph:
        readers = [use.node for use in norm.outputs[0].uses()]
        if (
            norm.op_type not in ("LayerNormalization", "RMSNormalization")
            or not readers
            or any(array(value) is None for value in norm.inputs[1:])
        ):
            continue
        if all(reader in linear and reader.op_type == "MatMul" for reader in readers):
            found[norm] = readers
    refuse_unless(
        bool(found),
        "The graph cannot be smoothed",
        why="no LayerNorm with constant scale and shift stands directly before linear layers",
        remedy="leave smooth out",
    )
    return found


def _channel_extremes(graph: Graph, images: Images, progress: Progress) -> dict[str, np.ndarray]:
    """Tensor name -> the largest magnitude in each channel."""
    model = prepare(graph)
    session = open_model(model, [tensor_name(norm.outputs[0]) for norm in foldable(model)])
    del model
    largest: dict[str, np.ndarray] = {}
    for values in batches(graph, session, images, progress, "smooth"):
        values.pop(graph.input_name)
        for name, value in values.items():
            seen = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
            largest[name] = np.maximum(largest[name], seen) if name in largest else seen
    return largest


def fold(model: ir.Model, norm: ir.Node, products: list[ir.Node], factors: np.ndarray, name: str) -> None:
    """Divide LayerNorm's gamma and beta by factors and multiply the rows of the weights that read it, in place."""
    for index in range(1, len(norm.inputs)):
        value = input_of(norm, index)
        norm.replace_input_with(index, constant(model, f"{value.name}/{name}", elements(value) / factors))
    for product in products:
        value = input_of(product, 1)
        scaled = elements(value) * factors[:, None]
        product.replace_input_with(1, constant(model, f"{value.name}/{name}", scaled))


def _largest_in_rows(products: list[ir.Node]) -> np.ndarray:
    """The largest weight that multiplies each channel."""
    return np.max([np.abs(elements(product.inputs[1])).max(axis=1) for product in products], axis=0)


def _factors(amax: np.ndarray, rows: np.ndarray, alpha: float) -> np.ndarray:
    """One factor per channel, float32; 1 where a channel or its weights are nothing but zeros."""
    alive = (amax > 0) & (rows > 0)
    raw = np.where(alive, amax, 1) ** alpha / np.where(alive, rows, 1) ** (1 - alpha)
    return np.maximum(np.where(alive, raw, 1), LEAST_FACTOR).astype(np.float32)
