"""The ONNX file of a model: read with its types inferred, raised to a later opset, written with its weights."""

from __future__ import annotations

import os
from pathlib import Path

import onnx.version_converter
import onnx_ir as ir
import onnx_ir.passes.common as passes
from google.protobuf.message import DecodeError
from onnxscript import version_converter

from ..errors import WorkbenchError, refuse_unless
from ..workspace import check_artefact, is_artefact
from .door import check_onnx

#: Protobuf cannot hold more (2 GiB); the margin is for everything that is not weights.
LARGEST_FILE = (2 << 30) - (64 << 20)


def load(path: Path, least_opset: int = 0) -> ir.Model:
    """Read a model, its constants as initializers and the type of each tensor inferred.

    Args:
        path: an ONNX file.
        least_opset: a model of an older opset is rewritten for this one.

    Raises:
        WorkbenchError: the file is no ONNX model, the types cannot be inferred, or it lies in a workspace and was
            changed there.
    """
    if not is_artefact(path):
        check_onnx(path)
    check_artefact(path)
    try:
        model = ir.load(path)
        _find_external(model)
    except (OSError, DecodeError, ValueError, TypeError, ir.serde.SerdeError) as error:
        raise WorkbenchError(
            f"{path} cannot be read as an ONNX model",
            why=f"{type(error).__name__}: {error}",
            remedy="give the path of an .onnx file, with its external data beside it",
        ) from error
    refuse_unless(
        "" in model.graph.opset_imports and len(model.graph) > 0,
        f"{path} cannot be read as an ONNX model",
        why="it holds no operators",
        remedy="give the path of an .onnx file that was written whole",
    )
    _inline(model, path)
    if opset(model) < least_opset:
        model = _raised(model, least_opset)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.ShapeInferencePass()(model)
    return model


def _find_external(model: ir.Model) -> None:
    """Raise OSError where external data is missing: weights are read only when they are used."""
    kept = (value.const_value for value in model.graph.initializers.values())
    for path in {tensor.path for tensor in kept if isinstance(tensor, ir.ExternalTensor)}:
        os.stat(path)


def _inline(model: ir.Model, path: Path) -> None:
    """Put the bodies of ONNX's local functions where they are called, as runtimes do."""
    if not model.functions:
        return
    own = {domain for domain, _, _ in model.functions}
    for function in model.functions.values():  # versions of the functions' own domains mean nothing, and may differ
        for domain in own.intersection(function.opset_imports):
            function.opset_imports[domain] = model.opset_imports.setdefault(domain, 1)
    try:
        passes.InlinePass()(model)
    except (ValueError, RuntimeError, KeyError) as error:  # functions that call each other in a circle, or miss one
        raise WorkbenchError(
            f"The local functions of {path} cannot be inlined",
            why=str(error).strip().splitlines()[0],
            remedy="export the model without functions",
        ) from error
    passes.NameFixPass()(model)


def _raised(model: ir.Model, version: int) -> ir.Model:
    """The model at a later opset; onnxscript's converter begins at 18, and ONNX's own keeps to 2 GiB."""
    if opset(model) < 18:
        return ir.from_proto(onnx.version_converter.convert_version(ir.to_proto(model), version))
    version_converter.convert_version(model, version)
    return model


def save(model: ir.Model, folder: Path, name: str = "model.onnx") -> Path:
    """Write ``model.onnx`` into a folder; weights that do not fit in one file go to ``model.onnx.data``."""
    passes.RemoveUnusedNodesPass()(model)
    passes.TopologicalSortPass()(model)
    passes.RemoveUnusedOpsetsPass()(model)
    path = folder / name
    large = _weight_bytes(model) > LARGEST_FILE
    if not large:
        ir.external_data.load_to_model(model)  # else the file would point to where the weights came from
    ir.save(model, path, external_data=f"{name}.data" if large else None)
    return path


def _weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers."""
    tensors = (value.const_value for value in model.graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def opset(model: ir.Model) -> int:
    """The version of ONNX's own operators that the model uses."""
    return model.graph.opset_imports[""]
