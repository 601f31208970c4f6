"""From a graph and a recipe to a variant: the ONNX file whose precision is written into its nodes."""

from __future__ import annotations

from pathlib import Path

from ..backends.base import Progress, silent
from ..records import Graph, Recipe, Variant
from ..workspace import Workspace
from . import edit
from .calibrate import calibrate
from .dynamic import quantize_dynamically
from .grids import FLOAT_TYPES
from .points import check_keep, check_unquantized
from .quantize import layout_of, quantize
from .saturation import FULL_RANGE, largest_weight

#: What shapes a variant beside its inputs: a change in any of these makes a new file.
CODE = (
    "workbench.sites",
    "workbench.graphs.recipes",
    "workbench.graphs.edit",
    "workbench.graphs.points",
    "workbench.graphs.grids",
    "workbench.graphs.dynamic",
    "workbench.graphs.quantize",
    "workbench.graphs.thresholds",
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
    return LOWERINGS[recipe.precision](graph, recipe, Workspace.of(workspace), calibration, progress or silent)


def _float32(graph, recipe, workspace, calibration, progress) -> Variant:
    def make(folder: Path, key: str) -> Variant:
        edit.load(graph.path)  # a file that is none is refused here, not by the first runtime
        return Variant(graph.path, key, graph, recipe, graph.opset, EVERYWHERE)

    return workspace.artefact("variant", Variant, (graph.digest, recipe), make, code=CODE, tools=TOOLS)


def _dynamic(graph, recipe, workspace, calibration, progress) -> Variant:
    largest = largest_weight()
    return _variant(
        graph,
        recipe,
        workspace,
        ("onnxruntime",),
        largest,
        lambda model: (*quantize_dynamically(model, recipe, largest), *_range_notes(largest)),
    )


def _quantized(graph, recipe, workspace, calibration, progress) -> Variant:
    largest = largest_weight() if recipe.layout == "cpu" else FULL_RANGE
    layout, stored = layout_of(recipe, largest), FLOAT_TYPES["fp32"]
    source = recipe.calibration if calibration is None else calibration
    ranges = calibrate(graph, source, workspace, scope=recipe.scope, progress=progress)
    return _variant(
        graph,
        recipe,
        workspace,
        ("onnxruntime",) if recipe.layout == "cpu" else EVERYWHERE,
        (ranges.digest, largest),
        lambda model: quantize(model, recipe, ranges, layout, stored),
    )


def _range_notes(largest: int) -> tuple[str, ...]:
    if largest == FULL_RANGE:
        return ("weights use all of ±127, which saturates on x86 without VNNI; it does not on this machine",)
    return (f"weights use ±{largest}, because 8-bit products saturate on this CPU",)


EVERYWHERE = ("onnxruntime", "tensorrt", "tensorrt-rtx")
LOWERINGS = {"fp32": _float32, "int8-dynamic": _dynamic, "int8": _quantized}


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
