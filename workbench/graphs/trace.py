"""The graph of a Flax ViT as jax2onnx traces it, with the line of the model that each node comes from."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from ..records import ModelSpec
from .structure.source_lines import OWN_KEY

#: The batch of a graph that takes any number of images.
DYNAMIC = "dynamic"
#: Environment variables that make jax2onnx note the line of Python behind each node; it has no argument for this.
STAMPING = {"JAX2ONNX_ENABLE_STACKTRACE_METADATA": "1", "JAX2ONNX_STACKTRACE_DETAIL": "full"}


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
