"""Any model as a graph: a JAX checkpoint is exported, an ONNX file of any program is imported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..datasets.published_preprocessing import read_preprocessing
from ..errors import path_of, refuse_unless
from ..progress import Progress, silent
from ..records import Graph, ModelSpec
from .import_ import import_onnx

ONNX = ".onnx"


def load_graph(
    path, workspace, preprocessing=None, *, image_size: int | None = None, progress: Progress = silent
) -> Graph:
    """The float32 graph of any model: notebooks, commands and study files begin with it.

    Args:
        path: an ``.onnx`` file, which ``import_onnx`` reads; anything else is a checkpoint for ``load_checkpoint``.
        workspace: a ``Workspace`` or a folder's path.
        preprocessing: how images become the model's input, as ``read_preprocessing`` takes it: the name of a
            preset, the path of the model's config, a mapping, or a ``Preprocessing``. None or empty is vit_jax's.
        image_size: pixels along an edge; position embeddings of a checkpoint are resized for it.
        progress: see ``progress.Progress``.

    Raises:
        WorkbenchError: the file or the preprocessing cannot be read, they do not fit each other, or ``image_size``
            is given for an ONNX file, whose size is fixed in it.
    """
    path = path_of("A model", path)
    if is_onnx(path):
        refuse_unless(
            image_size is None,
            f"{path.name} takes images of its own size",
            why=f"the size is fixed in the file, and image_size is {image_size}",
            remedy="leave image_size out, or export the model again for the other size",
        )
        return import_onnx(path, workspace, preprocessing or None, progress)
    from ..models.checkpoint import load_checkpoint
    from .export import export_onnx

    spec, params = load_checkpoint(path, image_size=image_size)
    used = replace(read_preprocessing(preprocessing, spec.image_size), layout="NHWC") if preprocessing else None
    return export_onnx(spec, params, workspace, preprocessing=used, progress=progress)


def original_of(path):
    """What a graph of ``load_graph`` is compared with: (spec, params) of a checkpoint, or an ONNX file's path."""
    path = path_of("A model", path)
    if is_onnx(path):
        return path
    from ..models.checkpoint import load_checkpoint

    return load_checkpoint(path)


def shape_of(model: str, workspace) -> ModelSpec:
    """The shape of a model: of a published size such as ``S/16``, of a checkpoint, or of an ONNX file.

    Raises:
        WorkbenchError: there is no such model, or no ModelSpec describes the ONNX file.
    """
    if is_onnx(Path(model)):
        graph = import_onnx(model, workspace)
        spec = graph.spec
        refuse_unless(
            spec is not None,
            f"The shape of {model} is not that of a plain ViT, which JAX could build and time",
            why=graph.notes[-1] if graph.notes else "no ModelSpec describes it",
            remedy="count it by wb.cost(wb.import_onnx(...)), and time its layers by `workbench profile FILE.onnx`",
        )
        return spec  # ty: ignore
    if Path(model).suffix == ".npz":
        from ..models.checkpoint import load_checkpoint

        return load_checkpoint(model)[0]
    from ..models.sizes import model_spec

    return model_spec(model)


def is_onnx(path: Path) -> bool:
    """Whether a path names an ONNX file."""
    return path.suffix.lower() == ONNX
