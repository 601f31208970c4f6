"""A variant's accuracy without its GPU: the same graph in float32, rounded after every operator.

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

from ...records import Variant
from ...workspace import Workspace
from .. import model_file
from ..structure.builder import constant, node, take_place
from ..structure.values import array
from .qdq_sites import MOVES

FLOAT = ir.DataType.FLOAT
HALVES = {ir.DataType.FLOAT16: "fp16", ir.DataType.BFLOAT16: "bf16"}
EMULATED = "emulated on the CPU in float32, rounded after every operator"


def emulated(variant: Variant, workspace) -> Variant:
    """The variant as a float32 file for ONNX Runtime that computes what the variant's own types would.

    Build and open it like any other: measurements of it are labelled ``emulated`` and its latency means nothing.

    Args:
        variant: any; one without 16-bit or FP8 parts is returned as it is.
        workspace: a ``Workspace`` or a folder's path.
    """
    recipe = variant.recipe
    rest = recipe.resolved_high_precision if recipe.needs_ranges else recipe.precision
    if rest not in HALVES.values() and recipe.precision != "fp8":
        return variant

    def make(folder: Path, key: str) -> Variant:
        model = model_file.load(variant.path)
        widen(model)
        path = model_file.save(model, folder)
        return dataclasses.replace(
            variant, path=path, digest=key, runtimes=("onnxruntime",), notes=(*variant.notes, EMULATED)
        )

    tools = ("onnx", "onnx-ir", "ml_dtypes")
    return Workspace.of(workspace).artefact("emulated", Variant, variant.digest, make, tools=tools)


def widen(model: ir.Model) -> None:
    """Turn every 16-bit tensor into a float32 one that holds the same rounded values, in place."""
    for value in list(model.graph.initializers.values()):
        if value.dtype in HALVES:
            wide = constant(model, f"{value.name}/wide", array(value).astype(np.float32))
            ir.convenience.replace_all_uses_with(value, wide)
    for each in list(model.graph):
        if each.op_type == "Cast":
            _widen_cast(model, each)
            continue
        for value in each.outputs:
            if value.dtype in HALVES:
                kind, value.dtype = value.dtype, FLOAT
                if each.op_type not in MOVES:
                    to_half = node("Cast", f"{each.name}/round", value, dtype=kind, to=kind)
                    model.graph.insert_after(each, to_half)
                    _back_to_float(model, to_half, value, but=to_half)


def _widen_cast(model: ir.Model, cast: ir.Node) -> None:
    target = cast.outputs[0]
    if target.dtype in HALVES:
        _back_to_float(model, cast, target)
    elif target.dtype == FLOAT and cast.inputs[0].dtype == FLOAT:  # what it casts is float32 by now
        if target.is_graph_output():
            take_place(cast.inputs[0], target)
        else:
            ir.convenience.replace_all_uses_with(target, cast.inputs[0])


def _back_to_float(model: ir.Model, to_half: ir.Node, replaced: ir.Value, but: ir.Node | None = None) -> None:
    """Let readers of ``replaced`` read the rounded numbers, in float32."""
    back = node("Cast", f"{to_half.name}/back", to_half.outputs[0], to=FLOAT)
    model.graph.insert_after(to_half, back)
    take_place(back.outputs[0], replaced, but or back)
    back.outputs[0].dtype = FLOAT
