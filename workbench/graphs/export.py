"""From a checkpoint to an ONNX graph that is proven to compute the same."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..backends.base import check_feeds
from ..errors import one_of, refuse_unless
from ..progress import Progress, silent
from ..records import Graph, ModelSpec, Preprocessing, whole
from ..workspace import Workspace
from . import model_file
from .canonical import clean
from .parity import compare_with_jax
from .structure.source_lines import OWN_KEY

OPSETS = tuple(range(17, 24))
DYNAMIC = "dynamic"
#: Environment variables that make jax2onnx note the line of Python behind each node; it has no argument for this.
STAMPING = {"JAX2ONNX_ENABLE_STACKTRACE_METADATA": "1", "JAX2ONNX_STACKTRACE_DETAIL": "full"}
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
    preprocessing: Preprocessing | None = None,
    images: np.ndarray | None = None,
    progress: Progress = silent,
) -> Graph:
    """Export a ViT to ONNX, clean the graph up, and compare it with JAX.

    The input ``images`` is (B, image_size, image_size, 3) float32, normalised; the output ``logits`` (B, classes).

    Args:
        spec: the model's shape.
        params: its parameters, from ``load_checkpoint``.
        workspace: a ``Workspace`` or a folder's path.
        opset: 17 to 23; TensorRT 8.6 reads 17, where GELU is spelled out; the Gelu operator begins at 20.
        batch: ``"dynamic"``, or the one batch size the graph takes.
        preprocessing: how images become the input; vit_jax's when left out.
        images: (N, H, W, 3) float32, normalised, to compare on; 64 of ``shapes`` when left out.
        progress: see ``progress.Progress``; stages ``trace``, ``clean`` and ``compare``.

    Returns:
        The graph; its ``parity`` says how closely it repeats JAX.

    Raises:
        WorkbenchError: an argument is wrong, or the graph does not repeat JAX; it names the block where they part.
    """
    opset, batch = _opset(opset), _batch(batch)
    params = _float32(spec, params)
    preprocessing = _preprocessing(spec, preprocessing)
    if images is not None:
        from ..models.vit import input_of

        check_feeds({"images": images}, input_of(spec))
    workspace = Workspace.of(workspace)

    def make(folder: Path, key: str) -> Graph:
        progress("trace", 0, 1)
        model = trace(spec, params, opset, batch)
        traced = Counter(node.op_type for node in model.graph)
        progress("clean", 0, 1)
        model, _ = clean.clean(model)
        path = model_file.save(model, folder)
        compared, sizes = (
            _images(spec) if images is None else images,
            (batch,) if isinstance(batch, int) else BATCHES,
        )
        parity, notes = compare_with_jax(spec, params, path, compared, sizes, progress)
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


def _preprocessing(spec: ModelSpec, given: Preprocessing | None) -> Preprocessing:
    preprocessing = given or Preprocessing(size=spec.image_size)
    refuse_unless(
        preprocessing.size == spec.image_size and preprocessing.layout == "NHWC",
        f"{spec.name} takes NHWC images of {spec.image_size} pixels",
        why=f"the preprocessing makes {preprocessing.layout} images of {preprocessing.size} pixels",
        remedy="give a Preprocessing of the model's own size and layout, or load the checkpoint with image_size=",
    )
    return preprocessing


def _images(spec: ModelSpec) -> np.ndarray:
    """The images that parity rests on where the caller gives none, (64, H, W, 3)."""
    from ..datasets import images

    return images("shapes", split="evaluation", count=IMAGES, size=spec.image_size).x


# ---- jax2onnx ----------------------------------------------------------------------------------------------------


def trace(spec: ModelSpec, params: Mapping, opset: int, batch: int | str) -> ir.Model:
    """The graph as jax2onnx writes it, with the line of the model that each node comes from."""
    import jax
    from jax2onnx import to_onnx

    from ..models.tree import join_qkv
    from ..models.vit import forward

    _load_plugins()
    joined = join_qkv(jax.tree.map(np.asarray, dict(params)))
    with _stamping():
        model = to_onnx(
            lambda images: forward(spec, joined, images),
            inputs=[("batch" if batch == DYNAMIC else batch, spec.image_size, spec.image_size, 3)],
            model_name=spec.name,
            opset=opset,
            normalization_mode="prefer_native",
            input_names=["images"],
            output_names=["logits"],
            return_mode="ir",
        )
    for node in model.graph:
        _stamp(node)
    return model


@functools.cache
def _load_plugins() -> None:
    """Import jax2onnx's converters, which it does at its first use.

    Among them are examples for other libraries that make random weights when they are imported, each compiled by
    XLA: 20 of 28 seconds. Under an abstract trace nothing is compiled. An example that needs real numbers fails to
    load, which jax2onnx reports as a warning; converters do not.
    """
    import jax
    from jax2onnx.plugins import plugin_system

    logger = logging.getLogger(plugin_system.__name__)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        jax.eval_shape(lambda: (plugin_system.import_all_plugins(), 0)[1])
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _stamping():
    """Set the variables of ``STAMPING`` inside, and restore them afterwards."""
    before = {name: os.environ.get(name) for name in STAMPING}
    os.environ.update(STAMPING)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


#: A frame of JAX's traceback in the model's file, innermost first: line, then function.
_FRAME = re.compile(r"models/vit\.py:(\d+)\S* \((\S+)\)")


def _stamp(node: ir.Node) -> None:
    """``models/vit.py:127`` for the line of the model behind a node; jax2onnx's own stamps are left out.

    All dense layers compute in one line of ``Dense``, so the line that calls it is taken.
    """
    frames = _FRAME.findall(node.metadata_props.get("pkg.jax2onnx.jax_traceback", ""))
    node.metadata_props.clear()
    line = next((line for line, function in frames if not function.startswith("Dense.")), None)
    if line:
        node.metadata_props[OWN_KEY] = f"models/vit.py:{line}"
