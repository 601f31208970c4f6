"""The import of a ViT that another program exported: cleaned up, named by role, compared with the original file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from ..backends.external_data import external_files
from ..datasets.input_range import unit_scale_note
from ..errors import WorkbenchError, path_of, refuse_unless
from ..progress import Progress, silent
from ..records import Graph, Preprocessing
from ..workspace import Workspace
from . import model_file
from .canonical import clean
from .parity import compare_outputs, constant_notes, outputs_of
from .quantization.prepare import check_float32
from .structure.spec import infer as infer_spec

TOOLS = (*clean.TOOLS, "onnxruntime")
#: The first opset with LayerNormalization; older files are converted.
LEAST_OPSET = 17
#: Random images that the clean graph is compared with the original on, and the batches they are given in.
BATCHES = (1, 3)

#: The type of a file's input -> what it is called in a ``Preprocessing``.
_INPUTS = {ir.DataType.FLOAT: "float32", ir.DataType.UINT8: "uint8"}


def import_onnx(path, workspace, preprocessing: Preprocessing | None = None, progress: Progress = silent) -> Graph:
    """Import a ViT's ONNX file that torch, timm or any other program exported.

    The graph is cleaned up like an exported one, and its blocks are found by structure, so that their names can be
    anything. Input and output are renamed to ``images`` and ``logits``. A model without blocks of attention and MLP
    is imported too, with its nodes as they are.

    Args:
        path: the file; external data lies beside it.
        workspace: a ``Workspace`` or a folder's path.
        preprocessing: how images become the model's input. Layout and type are read off the file. When left out,
            mean and std are vit_jax's, and a note says that this is a guess.
        progress: see ``progress.Progress``; stages ``read``, ``clean`` and ``compare``.

    Returns:
        The graph. ``spec`` is None where no ModelSpec describes it; ``parity`` compares it with the original file
        on random images; ``notes`` say what could not be read off.

    Raises:
        WorkbenchError: the file is no ONNX model or damaged, has several inputs or outputs, an open image size, is
            quantized already, or does not run.
    """
    path = path_of("An ONNX model", path)
    _check_file(path)
    progress("read", 0, 1)
    files = (path, *external_files(path))

    def make(folder: Path, key: str) -> Graph:
        model = _load(path)
        batch, size, layout, kind = _input(model)
        classes = _output(model)
        used = _preprocessing(preprocessing, size, layout, kind)
        images = _random_images(batch, size, layout, kind)
        before = outputs_of(path, images)
        progress("clean", 0, 1)
        model, places = clean.clean(model)
        _rename(model)
        saved = model_file.save(model, folder)
        progress("compare", 0, 1)
        parity = compare_outputs(before, outputs_of(saved, images), path)
        spec, reason = infer_spec(model, places, path.stem, size)
        return Graph(
            path=saved,
            digest=key,
            opset=model_file.opset(model),
            preprocessing=used,
            spec=spec,
            batch=batch,
            classes=classes,
            parity=parity,
            notes=(*_notes(preprocessing, layout, places, reason), *constant_notes(np.concatenate(before))),
        )

    return Workspace.of(workspace).artefact("graph", Graph, (files, preprocessing), make, tools=TOOLS)


# ---- the given file ----------------------------------------------------------------------------------------------


def _check_file(path: Path) -> None:
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, OSError, ValueError, RuntimeError) as error:
        reason = "there is no such file" if not path.is_file() else str(error).strip().splitlines()[0]
        raise WorkbenchError(
            f"{path} cannot be read as an ONNX model",
            why=reason,
            remedy="give the path of an .onnx file that was written whole, with its external data beside it",
        ) from error


def _load(path: Path) -> ir.Model:
    try:
        model = model_file.load(path, LEAST_OPSET)
    except RuntimeError as error:  # ONNX's converter between opsets
        raise WorkbenchError(
            f"{path} cannot be brought to opset {LEAST_OPSET}",
            why=str(error).strip().splitlines()[0],
            remedy=f"export the model again with opset {LEAST_OPSET} or above",
        ) from error
    check_float32(model)
    return model


def _input(model: ir.Model) -> tuple[int | None, int, str, str]:
    """Batch (None where it is open), image size, layout and type (``records.models.INPUTS``) of the one input."""
    inputs = [value for value in model.graph.inputs if not value.is_initializer()]
    kind = _INPUTS.get(inputs[0].dtype or ir.DataType.UNDEFINED, "") if inputs else ""
    refuse_unless(
        len(inputs) == 1,
        "The model must have one input, the images",
        why=f"it has {len(inputs)}: {', '.join(str(value.name) for value in inputs)}",
        remedy="export the image encoder alone, with everything else fixed",
    )
    shape = list(inputs[0].shape or ())
    refuse_unless(
        bool(kind) and len(shape) == 4 and 3 in (shape[1], shape[3]),
        "The model's input must be a batch of float32 or uint8 images with three channels",
        why=f"{inputs[0].name} is {inputs[0].dtype} of shape {inputs[0].shape}",
        remedy="export the model so that it takes (B, 3, H, W) or (B, H, W, 3), normalised or as pixels",
    )
    layout = "NCHW" if shape[1] == 3 else "NHWC"
    height, width = shape[2:] if layout == "NCHW" else shape[1:3]
    if not isinstance(height, int) or height != width:
        raise WorkbenchError(
            "The model must take square images of one size",
            why=f"{inputs[0].name} has shape {inputs[0].shape}",
            remedy="export it with a fixed image size; only the batch may be open",
        )
    return (shape[0] if isinstance(shape[0], int) else None), height, layout, kind


def _output(model: ir.Model) -> int | None:
    """The number of classes of the one output, or None where it is open."""
    outputs = model.graph.outputs
    refuse_unless(
        len(outputs) == 1 and outputs[0].dtype == ir.DataType.FLOAT,
        "The model must have one float32 output, the logits",
        why=f"it has {', '.join(f'{value.name} ({value.dtype}, {value.shape})' for value in outputs)}",
        remedy="export it so that it returns the logits alone",
    )
    shape = outputs[0].shape
    refuse_unless(
        shape is None or len(shape) == 2,
        "The model's output must be one row of logits per image",
        why=f"{outputs[0].name} has shape {shape}",
        remedy="export the classifier with its head, not the features",
    )
    classes = None if shape is None else shape[1]
    return classes if isinstance(classes, int) else None


def _preprocessing(given: Preprocessing | None, size: int, layout: str, kind: str) -> Preprocessing:
    """The preprocessing that was given, or vit_jax's, in the model's layout and of its input's type."""
    preprocessing = given or Preprocessing(size=size)
    refuse_unless(
        preprocessing.size == size,
        f"The model takes images of {size} pixels",
        why=f"the preprocessing makes {preprocessing.size}",
        remedy=f"give a Preprocessing of size {size}, or export the model for {preprocessing.size}",
    )
    return dataclasses.replace(preprocessing, layout=layout, input=kind)


def _random_images(batch: int | None, size: int, layout: str, kind: str) -> list[np.ndarray]:
    """One array of images for each batch that original and import are compared in."""
    rng = np.random.default_rng(0)
    shape = (3, size, size) if layout == "NCHW" else (size, size, 3)
    if kind == "uint8":
        counts = BATCHES if batch is None else (batch,)
        return [rng.integers(0, 256, (count, *shape), np.uint8) for count in counts]
    return [rng.standard_normal((count, *shape), np.float32) for count in (BATCHES if batch is None else (batch,))]


def _notes(given: Preprocessing | None, layout: str, places: Mapping, reason: str) -> Iterator[str]:
    """What could not be read off the file, or differs from what was given."""
    if given is None:
        yield (
            "How images are prepared cannot be read off a file: mean and std are vit_jax's (127.5, 127.5). Give the"
            " model's own Preprocessing, or its accuracy means nothing."
        )
    elif unit_scale_note(given):
        yield f"The preprocessing looks wrong: {unit_scale_note(given)}."
    if given is not None and given.layout != layout:
        yield f"The model takes {layout} images; the given preprocessing makes {given.layout}."
    if not places:
        yield "No block of attention and MLP was found: nodes keep their names, and tables cannot group by block."
    if reason:
        yield reason


# ---- the imported graph ------------------------------------------------------------------------------------------


def _rename(model: ir.Model) -> None:
    """The names that every backend of the workbench feeds and reads."""
    boundary = {"images": model.graph.inputs[0], "logits": model.graph.outputs[0]}
    inside = [value for node in model.graph for value in node.outputs]
    for name, value in boundary.items():
        for other in (*model.graph.initializers.values(), *inside):
            if other.name == name and other is not value:
                other.name = f"{name}:inside"
        value.name = name
