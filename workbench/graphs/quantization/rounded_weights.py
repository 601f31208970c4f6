"""Weights rounded to whole numbers under one scale for the whole tensor: for lessons and tests.

That is the plainest way to four bits. The largest weight of a tensor sets the step of all others, and most weights
are far smaller. No recipe offers it. Four bits work because blocks have a scale each, see ``block_scales``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ...dtypes import TYPES
from ...places import place_of
from ...records import Graph
from ...workspace import Workspace
from .. import model_file
from ..structure.builder import constant
from ..structure.values import elements, input_of
from .prepare import prepare
from .qdq_sites import linear_products, place_name

TOOLS = ("onnx", "onnx-ir", "numpy")


def with_rounded_weights(graph: Graph, workspace, *, kind: str = "int4") -> Graph:
    """Round the weights of the dense layers of all blocks, each tensor with one scale.

    Args:
        graph: a float32 graph.
        workspace: a ``Workspace`` or a folder's path.
        kind: the integer type of ``dtypes`` that would store them: ``int4`` or ``int8``.
    """

    def make(folder: Path, key: str) -> Graph:
        model, largest = prepare(graph), TYPES[kind].largest
        for product in _dense_layers(model):
            value = input_of(product, 1)
            weights = elements(value)
            step = np.float32(np.abs(weights).max() / largest) or np.float32(1)
            rounded = np.rint(weights / step) * step
            product.replace_input_with(1, constant(model, f"{value.name}/rounded", rounded))
        path = model_file.save(model, folder)
        note = f"weights of the blocks are whole numbers of {kind} under one scale a tensor, for a lesson"
        return dataclasses.replace(graph, path=path, digest=key, notes=(*graph.notes, note))

    inputs = (graph.digest, kind, "rounded")
    return Workspace.of(workspace).artefact("graph", Graph, inputs, make, tools=TOOLS)


def dense_weights(graph: Graph) -> dict[str, np.ndarray]:
    """Place, such as ``block03/fc1``, -> the weights (inputs, outputs) of the dense layer there, of all blocks."""
    return {place_name(each): elements(each.inputs[1]) for each in _dense_layers(prepare(graph))}


def _dense_layers(model: ir.Model) -> Iterator[ir.Node]:
    for product in linear_products(model):
        place = place_of(product.name or "")
        if place and place.block and elements(product.inputs[1]).ndim == 2:
            yield product
