"""From a checkpoint to an ONNX graph that is proven to compute the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..datasets.model_input import check_model_input
from ..datasets.preprocessing import vit_jax
from ..errors import one_of, refuse_unless
from ..progress import Progress, silent
from ..records import Graph, ModelSpec, Preprocessing, whole
from ..workspace import Workspace
from . import model_file
from .canonical import clean
from .parity import compare_with_jax
from .trace import DYNAMIC, trace
from .uint8_input import fold_normalisation

OPSETS = tuple(range(17, 24))
#: How many real images parity rests on where the caller gives none.
IMAGES = 64
#: Batches that a graph with a symbolic batch is tried with.
BATCHES = (1, 7)
TOOLS = (*clean.TOOLS, "jax", "flax", "jax2onnx", "onnxruntime")


def export_onnx(
    spec: ModelSpec,
    params: Mapping,
    workspace,
    *,
    opset: int = 20,
    batch: int | str = DYNAMIC,
    input: str = "float32",
    preprocessing: Preprocessing | None = None,
    images: np.ndarray | None = None,
    progress: Progress = silent,
) -> Graph:
    """Export a ViT to ONNX, clean the graph up, and compare it with JAX.

    The input ``images`` is (B, image_size, image_size, 3), normalised float32 or uint8 pixels; the output
    ``logits`` is (B, classes) float32.

    Args:
        spec: the model's shape.
        params: its parameters, from ``load_checkpoint``.
        workspace: a ``Workspace`` or a folder's path.
        opset: 17 to 23; TensorRT 8.6 reads 17, where GELU is spelled out; the Gelu operator begins at 20.
        batch: ``"dynamic"``, or the one batch size the graph takes.
        input: ``float32`` takes normalised images. ``uint8`` takes the pixels and normalises in the graph, so
            that no caller can do it wrongly; std costs nothing, because it is in the patch embedding's weights.
        preprocessing: how images become the input; vit_jax's when left out.
        images: (N, H, W, 3), of the type of the input, to compare on; 64 of ``shapes`` when left out.
        progress: see ``progress.Progress``; stages ``trace``, ``clean`` and ``compare``.

    Returns:
        The graph; its ``parity`` says how closely it repeats JAX.

    Raises:
        WorkbenchError: an argument is wrong, or the graph does not repeat JAX; it names the block where they part.
    """
    opset, batch = _opset(opset), _batch(batch)
    params = _float32(spec, params)
    preprocessing = _preprocessing(spec, preprocessing, input)
    if images is not None:
        check_model_input(images, spec.image_size, "NHWC", spec.name, input)
    workspace = Workspace.of(workspace)

    def make(folder: Path, key: str) -> Graph:
        progress("trace", 0, 1)
        model = trace(spec, params, opset, batch)
        traced = Counter(node.op_type for node in model.graph)
        progress("clean", 0, 1)
        model, _ = clean.clean(model)
        if input == "uint8":
            fold_normalisation(model, preprocessing)
        path = model_file.save(model, folder)
        compared = _images(preprocessing) if images is None else images
        sizes = (batch,) if isinstance(batch, int) else BATCHES
        parity, notes = compare_with_jax(spec, params, path, preprocessing, compared, sizes, progress)
        return Graph(
            path=path,
            digest=key,
            opset=opset,
            preprocessing=preprocessing,
            spec=spec,
            batch=batch if isinstance(batch, int) else None,
            classes=spec.classes,
            parity=parity,
            traced=traced,
            notes=notes,
        )

    inputs = (spec, params, opset, batch, preprocessing, images)
    return workspace.artefact("graph", Graph, inputs, make, tools=TOOLS)


def trace_onnx(
    spec: ModelSpec, params: Mapping, workspace, *, opset: int = 20, batch: int | str = DYNAMIC
) -> Graph:
    """The graph as jax2onnx writes it, before the clean-up: to look at, not to build engines from.

    Args:
        spec: the model's shape.
        params: its parameters, from ``load_checkpoint``.
        workspace: a ``Workspace`` or a folder's path.
        opset: 17 to 23.
        batch: ``"dynamic"``, or the one batch size the graph takes.

    Returns:
        The graph, whose nodes have no names of blocks and roles; it was not compared with JAX.

    Raises:
        WorkbenchError: an argument is wrong.
    """
    opset, batch = _opset(opset), _batch(batch)
    params, preprocessing = _float32(spec, params), Preprocessing(size=spec.image_size)

    def make(folder: Path, key: str) -> Graph:
        model = trace(spec, params, opset, batch)
        traced = Counter(node.op_type for node in model.graph)
        _forget_untyped_shapes(model)
        return Graph(
            path=model_file.save(model, folder),
            digest=key,
            opset=opset,
            preprocessing=preprocessing,
            spec=spec,
            batch=batch if isinstance(batch, int) else None,
            classes=spec.classes,
            traced=traced,
            notes=("as traced: neither cleaned up nor compared with JAX",),
        )

    return Workspace.of(workspace).artefact("traced", Graph, (spec, params, opset, batch), make, tools=TOOLS)


def _forget_untyped_shapes(model) -> None:
    """ONNX cannot store a shape without a type, and jax2onnx notes such shapes; reading the file infers both."""
    for node in model.graph:
        for value in node.outputs:
            if value.type is None:
                value.shape = None


def _opset(given) -> int:
    """An opset as Python's own integer; refused where the workbench does not export it."""
    opset = whole(given)
    one_of("opset", given if opset is None else opset, OPSETS)
    return int(opset or 0)


def _batch(given) -> int | str:
    """A batch as Python's own integer, or ``"dynamic"``; anything else is refused."""
    batch = whole(given)
    refuse_unless(
        given == DYNAMIC or (batch or 0) > 0,
        f"A graph cannot take a batch of {given!r}",
        why="a batch is a whole number of at least 1, or open",
        remedy='give an integer of 1 or more, or "dynamic"',
    )
    return batch or DYNAMIC


def _float32(spec: ModelSpec, params: Mapping) -> dict:
    """The tree in float32, whatever its type was; errors name the parameter that does not fit."""
    from flax import traverse_util

    from ..models.vit import check_parameters

    check_parameters(spec, params)
    flat = {}
    for path, leaf in traverse_util.flatten_dict(params, sep="/").items():
        flat[path] = np.asarray(leaf, np.float32)
        refuse_unless(
            bool(np.isfinite(flat[path]).all()),
            f"{spec.name} cannot be exported: {path}",
            why="it holds NaN or infinity, and so would all logits",
            remedy="repair the training that made it, or load the checkpoint again",
        )
    return traverse_util.unflatten_dict(flat, sep="/")


def _preprocessing(spec: ModelSpec, given: Preprocessing | None, input: str) -> Preprocessing:
    preprocessing = replace(given or vit_jax(spec.image_size), input=input)
    refuse_unless(
        preprocessing.size == spec.image_size and preprocessing.layout == "NHWC",
        f"{spec.name} takes NHWC images of {spec.image_size} pixels",
        why=f"the preprocessing makes {preprocessing.layout} images of {preprocessing.size} pixels",
        remedy="give a Preprocessing of the model's own size and layout, or load the checkpoint with image_size=",
    )
    return preprocessing


def _images(preprocessing: Preprocessing) -> np.ndarray:
    """The images that parity rests on where the caller gives none, (64, H, W, 3)."""
    from ..datasets import images

    prepared = replace(preprocessing, classes=())
    return images("shapes", split="evaluation", count=IMAGES, preprocessing=prepared).x
