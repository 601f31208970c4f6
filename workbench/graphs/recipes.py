"""From a graph and a recipe to a variant: the ONNX file whose precision is written into its nodes."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from ..backends.base import Progress, silent
from ..records import Graph, Recipe, Variant
from ..workspace import Workspace
from . import edit
from .dynamic import quantize_dynamically
from .points import check_keep, check_unquantized
from .saturation import largest_weight

#: What shapes a variant beside its inputs: a change in any of these makes a new file.
CODE = (
    "workbench.sites",
    "workbench.graphs.recipes",
    "workbench.graphs.edit",
    "workbench.graphs.points",
    "workbench.graphs.grids",
    "workbench.graphs.dynamic",
    "workbench.graphs.saturation",
)
TOOLS = ("onnx", "onnx-ir", "ml_dtypes", "numpy")


def apply_recipe(
    graph: Graph, recipe: Recipe, workspace, calibration=None, progress: Progress | None = None
) -> Variant:
    """Make, or find, the variant of a graph that a recipe describes.

    Args:
        graph: from ``export_onnx`` or ``import_onnx``.
        recipe: what to do.
        workspace: a ``Workspace`` or a folder's path.
        calibration: (N, H, W, 3) float32 images, normalised, that replace the recipe's own calibration set;
            ignored where nothing is calibrated.
        progress: see ``backends.base.Progress``.

    Returns:
        The variant: its ONNX file, the runtimes that take it, and notes on what a reader of its numbers must know.

    Raises:
        WorkbenchError: the graph is quantized already, a name in ``keep`` is unknown, the calibration images are
            missing, too few, of a wrong shape or type, or an activation is not finite.
    """
    workspace, progress = Workspace.of(workspace), progress or silent
    return LOWERINGS[recipe.precision](graph, recipe, workspace, calibration, progress)


def _float32(graph, recipe, workspace, calibration, progress) -> Variant:
    def make(folder: Path, key: str) -> Variant:
        edit.load(graph.path)
        return Variant(graph.path, key, graph, recipe, graph.opset, RUNTIMES)

    return workspace.artefact("variant", Variant, (graph.digest, recipe), make, code=CODE, tools=TOOLS)


def _dynamic(graph, recipe, workspace, calibration, progress) -> Variant:
    largest = largest_weight()

    def rewrite(model: ir.Model) -> tuple[str, ...]:
        return quantize_dynamically(model, recipe, largest)

    return _variant(graph, recipe, workspace, ("onnxruntime",), {"largest": largest}, rewrite)


RUNTIMES = ("onnxruntime", "tensorrt", "tensorrt-rtx")
LOWERINGS = {"fp32": _float32, "int8-dynamic": _dynamic}


def _variant(graph, recipe, workspace, runtimes, inputs, rewrite) -> Variant:
    """The artefact that ``rewrite`` makes of the graph's model."""

    def make(folder: Path, key: str) -> Variant:
        model = edit.load(graph.path)
        check_unquantized(model)
        check_keep(model, recipe)
        notes = rewrite(model)
        path = edit.save(model, folder)
        return Variant(path, key, graph, recipe, edit.opset(model), runtimes, notes)

    return workspace.artefact("variant", Variant, (graph.digest, recipe, inputs), make, code=CODE, tools=TOOLS)
