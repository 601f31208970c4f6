"""The graphs that tests start from: torch's exports, and the reference checkpoints as jax2onnx traces them."""

import functools
from pathlib import Path

import numpy as np
import onnx_ir as ir

from workbench.graphs.trace import trace
from workbench.models.checkpoint import load_checkpoint

REFERENCE = Path(__file__).parents[1] / "reference"
EXPORTS = Path(__file__).parent / "torch_exports"
#: The Vision Transformers among torch's exports.
VITS = sorted(path.stem for path in EXPORTS.glob("*.onnx") if path.stem not in ("cnn", "mlp"))


@functools.cache
def checkpoint(kind: str):
    """(spec, params) of ``vit_tiny_<kind>.npz``."""
    return load_checkpoint(REFERENCE / f"vit_tiny_{kind}.npz")


def answers(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and the logits that vit_jax's authors' code gives for them."""
    with np.load(REFERENCE / f"vit_tiny_{kind}_ref.npz") as file:
        return file["input"], file["logits"]


@functools.cache
def _traced(kind: str, opset: int, batch) -> bytes:
    return ir.to_proto(_typed(trace(*checkpoint(kind), opset, batch))).SerializeToString()


def traced(kind: str = "token", opset: int = 20, batch: int | str = "dynamic") -> ir.Model:
    """A fresh copy of the graph as jax2onnx writes it."""
    return ir.from_proto(ir.serde.onnx.ModelProto.FromString(_traced(kind, opset, batch)))


def _typed(model: ir.Model) -> ir.Model:
    """A shape without a type cannot be written, and onnx-ir warns of it."""
    for node in model.graph:
        for value in node.outputs:
            value.shape = value.shape if value.dtype is not None else None
    return model
