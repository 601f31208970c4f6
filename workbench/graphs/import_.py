"""The import of a ViT that another program exported: cleaned up, named by role, compared with the original file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from ..backends.external_data import external_files
from ..datasets.input_range import unit_scale_note
from ..datasets.published_preprocessing import read_preprocessing
from ..errors import WorkbenchError, path_of, refuse_unless
from ..progress import Progress, silent
from ..records import Graph, Preprocessing
from ..workspace import Workspace
from . import model_file
from .canonical import clean, control_flow
from .canonical.widen import widen
from .door import check_onnx
from .model_input import preprocessing_for, read_input, take_three_channels, written_size
from .parity import compare_outputs, constant_notes, outputs_of
from .quantization.prepare import check_float32
from .structure.recognition import left_out
from .structure.spec import infer as infer_spec

TOOLS = (*clean.TOOLS, "onnxruntime")
#: The first opset with LayerNormalization; older files are converted.
LEAST_OPSET = 17


def import_onnx(path, workspace, preprocessing=None, progress: Progress = silent) -> Graph:
    """Import a ViT's ONNX file that torch, timm or any other program exported.

    The graph is cleaned up like an exported one: local functions are inlined, loops written out, and 16-bit files
    widened to float32. Its blocks are found by structure, so that their names can be
    anything. Input and output are renamed to ``images`` and ``logits``. A model without blocks of attention and MLP
    is imported too, with its nodes as they are.

    Args:
        path: the file; external data lies beside it.
        workspace: a ``Workspace`` or a folder's path.
        preprocessing: how images become the model's input: a ``Preprocessing``, or what ``read_preprocessing``
            takes, such as ``"deit"`` or the path of the model's config; what says no size gets the file's. Layout
            and type are read off the file, and a size that the file leaves open is the preprocessing's. When left
            out, mean and std are vit_jax's, and a note says that this is a guess.
        progress: see ``progress.Progress``; stages ``read``, ``clean`` and ``compare``.

    Returns:
        The graph. ``spec`` is None where no ModelSpec describes it; ``parity`` compares it with the original file
        on random images; ``notes`` say what could not be read off.

    Raises:
        WorkbenchError: the file is no ONNX model or damaged, has several inputs or outputs, an image size that
            nothing tells, loops of unknown length, is quantized already, or does not run.
    """
    path = path_of("An ONNX model", path)
    check_onnx(path)
    _check_file(path)
    if preprocessing is not None:
        preprocessing = read_preprocessing(preprocessing, written_size(path))
    progress("read", 0, 1)
    files = (path, *external_files(path))

    def make(folder: Path, key: str) -> Graph:
        model = _load(path)
        taken = read_input(model, preprocessing)
        half, used = widen(model), preprocessing_for(preprocessing, taken)
        check_float32(model)
        classes, images = _output(model), taken.random_images()
        before = [logits.astype(np.float32) for logits in outputs_of(path, images)]
        if taken.channels == 1:
            take_three_channels(model, taken)
        progress("clean", 0, 1)
        model, places = clean.clean(model)
        _rename(model)
        saved = model_file.save(model, folder)
        progress("compare", 0, 1)
        after = outputs_of(saved, list(map(taken.for_graph, images)))
        parity = compare_outputs(before, after, path, "fp16" if half else "fp32")
        spec, reason = infer_spec(model, places, path.stem, taken.size)
        notes = (*_notes(preprocessing, taken.layout, places, reason), *taken.notes(), *_half_note(half))
        return Graph(
            path=saved,
            digest=key,
            opset=model_file.opset(model),
            preprocessing=used,
            spec=spec,
            batch=taken.batch,
            classes=classes or before[0].shape[-1],
            parity=parity,
            notes=(*notes, *left_out(model), *constant_notes(np.concatenate(before))),
        )

    return Workspace.of(workspace).artefact("graph", Graph, (files, preprocessing), make, tools=TOOLS)


# ---- the given file ----------------------------------------------------------------------------------------------


def _check_file(path: Path) -> None:
    try:
        onnx.checker.check_model(str(path))
    except Exception as error:  # the checker's own errors, and whatever its inference trips over
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
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
    control_flow.write_out(model)
    return model


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


def _half_note(half: bool) -> tuple[str, ...]:
    if not half:
        return ()
    return ("The file computes in 16 bits; the graph computes in float32 with its weights, which were rounded.",)


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
