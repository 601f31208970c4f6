"""The accuracy of a variant without its GPU: the same graph in float32, rounded after every operator.

A tensor core multiplies FP16, BF16 or FP8 numbers, adds them up in float32 and rounds the sum; so does a float32
product of rounded inputs whose result is rounded. Rounding is a pair of casts, float32 to the type and back.
ONNX Runtime would run an FP16 file itself, but it fuses operators in float32, so that what overflows on a GPU does
not overflow there, and it has no BF16 kernels at all.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ... import dtypes
from ...backends.onnxruntime import NO_KERNELS
from ...records import Variant
from ...workspace import Workspace
from .. import model_file
from ..structure.builder import constant, node, take_place
from ..structure.operators import WITHOUT_ARITHMETIC
from ..structure.values import HALVES, elements, input_of, onnx_type
from .block_emulation import expand_blocks

FLOAT = onnx_type("fp32")
#: The file's name differs from the variant's own, because both travel to a host in one folder.
FILE = "emulated.onnx"
EMULATED = "emulated on the CPU in float32, rounded after every operator"
TOOLS = ("onnx", "onnx-ir", "ml_dtypes")


def emulated(variant: Variant, workspace) -> Variant:
    """The variant as a float32 file for ONNX Runtime that computes what the variant's own types would.

    Build and open it like any other: measurements of it are labelled ``emulated`` and its latency means nothing.

    Args:
        variant: any; one without parts in 16 bits, FP8 or FP4 is returned as it is.
        workspace: a ``Workspace`` or a folder's path.
    """
    if not variant.recipe.types.intersection((*dtypes.HALVES, *NO_KERNELS)):
        return variant

    def make(folder: Path, key: str) -> Variant:
        path, notes = model_file.save(load_widened(variant.path), folder, FILE), (*variant.notes, EMULATED)
        runtimes = ("onnxruntime",)
        return dataclasses.replace(variant, path=path, digest=key, runtimes=runtimes, notes=notes, emulation=path)

    return Workspace.of(workspace).artefact("emulated", Variant, variant.digest, make, tools=TOOLS)


def with_emulation(variant: Variant, workspace) -> Variant:
    """The variant and its emulation, where ONNX Runtime takes the file and computes its 16-bit types in float32.

    Without it ``measure`` would call the accuracy of float32 that of FP16, and hide what overflows on a GPU.
    """
    if "onnxruntime" not in variant.runtimes or variant.recipe.product_types.isdisjoint(dtypes.HALVES):
        return variant
    return dataclasses.replace(variant, emulation=emulated(variant, workspace).path)


def load_widened(path: Path) -> ir.Model:
    """Read a model, with its 16-bit and block-scaled tensors as float32 ones that hold the same rounded values.

    Raises:
        WorkbenchError: the file is no ONNX model.
    """
    model = model_file.load(path)
    expand_blocks(model)
    if not any(value.dtype in HALVES for each in model.graph for value in each.outputs):
        return model
    for value in list(model.graph.initializers.values()):
        if value.dtype in HALVES:
            wide = constant(model, f"{value.name}/wide", elements(value).astype(np.float32))
            ir.convenience.replace_all_uses_with(value, wide)
    for each in list(model.graph):
        if each.op_type == "Cast":
            _widen_cast(model, each)
        else:
            _widen_outputs(model, each)
    return model


def _widen_outputs(model: ir.Model, each: ir.Node) -> None:
    """Round what a node writes to its 16-bit type; what only moves numbers is rounded already."""
    for value in each.outputs:
        if value.dtype in HALVES:
            kind, value.dtype = value.dtype, FLOAT
            if each.op_type not in WITHOUT_ARITHMETIC:
                to_half = node("Cast", f"{each.name}/round", value, dtype=kind, to=kind)
                model.graph.insert_after(each, to_half)
                _back_to_float(model, to_half, value, but=to_half)


def _widen_cast(model: ir.Model, cast: ir.Node) -> None:
    source, target = input_of(cast, 0), cast.outputs[0]
    if target.dtype in HALVES:
        _back_to_float(model, cast, target)
    elif target.dtype == FLOAT and source.dtype == FLOAT:  # what it casts is float32 by now
        if target.is_graph_output():
            take_place(source, target)
        else:
            ir.convenience.replace_all_uses_with(target, source)


def _back_to_float(model: ir.Model, to_half: ir.Node, replaced: ir.Value, but: ir.Node | None = None) -> None:
    """Let readers of ``replaced`` read the rounded numbers, in float32."""
    back = node("Cast", f"{to_half.name}/back", to_half.outputs[0], to=FLOAT)
    model.graph.insert_after(to_half, back)
    take_place(back.outputs[0], replaced, but or back)
    back.outputs[0].dtype = FLOAT
