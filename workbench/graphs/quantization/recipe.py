"""From a graph and a recipe to a variant: the ONNX file whose precision is written into its nodes.

``LOWERINGS`` names the function that writes each precision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ...backends.onnxruntime import NO_KERNELS
from ...dtypes import TYPES
from ...errors import refuse_unless
from ...progress import Progress, silent
from ...records import PRECISIONS, Calibration, Graph, Recipe, Variant
from ...workspace import Workspace
from .. import model_file
from ..structure.values import numpy_type
from .block_scaled import block_layers, quantize_blocks
from .calibration_set import images_of, note_of, with_images
from .casts import layers_beyond, retype
from .dynamic import quantize_dynamically
from .emulation import with_emulation
from .prepare import check_graph, prepare
from .qdq import quantize
from .qdq_sites import check_excluded, excluded, unnamed_notes, unquantized_notes
from .ranges import Ranges, calibrate
from .saturation import FULL_RANGE, largest_weight, saturates
from .scales import HALF_SCALES_OPSET, layout_of
from .smoothquant import smoothed
from .weight_only import quantize_weights

#: The distributions whose versions shape a variant.
TOOLS = ("onnx", "onnx-ir", "onnxscript", "ml_dtypes", "numpy")
ONNXRUNTIME, TENSORRT = ("onnxruntime",), ("tensorrt", "tensorrt-rtx")
EVERYWHERE = ONNXRUNTIME + TENSORRT
#: The last opset that TensorRT 8.6 reads.
TENSORRT_8_OPSET = 17

Images = Calibration | np.ndarray


def apply_recipe(
    graph: Graph, recipe: Recipe, workspace, calibration: np.ndarray | None = None, progress: Progress | None = None
) -> Variant:
    """Make, or find, the variant of a graph that a recipe describes.

    Args:
        graph: from ``export_onnx`` or ``import_onnx``.
        recipe: what to do.
        workspace: a ``Workspace`` or a folder's path.
        calibration: (N, H, W, 3) float32 images, normalised, that replace the recipe's own calibration set;
            ignored where nothing is calibrated. The workspace keeps them, and the variant's recipe names them by
            digest and count, so that this recipe makes the same file again.
        progress: see ``progress.Progress``.

    Returns:
        The variant: its ONNX file, the runtimes that take it, and notes on what a reader of its numbers must know.

    Raises:
        WorkbenchError: the graph is quantized already, a name in ``exclude`` is unknown, the calibration images are
            not named, missing, too few, of a wrong shape or type, or an activation is not finite.
    """
    check_graph(graph)
    refuse_unless(
        isinstance(recipe, Recipe),
        "A graph is changed by a Recipe",
        why=f"given was {recipe!r}",
        remedy="write Recipe(precision='int8')",
    )
    workspace = Workspace.of(workspace)
    recipe = with_images(graph, recipe, workspace, calibration)
    images = images_of(graph, recipe.calibration, workspace) if recipe.is_calibrated else recipe.calibration
    variant = LOWERINGS[recipe.precision](graph, recipe, workspace, images, progress or silent)
    if recipe.is_calibrated:
        variant = replace(variant, notes=(*variant.notes, note_of(recipe)))
    return with_emulation(variant, workspace)


def foreseen(graph: Graph, recipe: Recipe) -> Variant:
    """The variant as ``apply_recipe`` would describe it, without its file: to ask a backend what it would refuse.

    Raises:
        WorkbenchError: no variant can be made, because layout and high precision do not go together.
    """
    _check_high_precision(recipe)
    return Variant(graph.path, "", graph, recipe, least_opset(graph, recipe), runtimes_of(recipe))


def runtimes_of(recipe: Recipe) -> tuple[str, ...]:
    """The runtimes that take the file which a recipe makes."""
    if recipe.resolved_layout == "cpu":
        return ONNXRUNTIME
    return EVERYWHERE if recipe.types.isdisjoint(NO_KERNELS) else TENSORRT


# ---- one lowering a kind of precision ----------------------------------------------------------------------------


def _as_it_is(graph: Graph, recipe: Recipe, workspace: Workspace, images: Images, progress: Progress) -> Variant:
    """fp32: the graph's own file."""

    def make(folder: Path, key: str) -> Variant:
        check_excluded(model_file.load(graph.path), recipe)  # loading refuses a file that is no model
        return Variant(graph.path, key, graph, recipe, graph.opset, EVERYWHERE)

    return workspace.artefact("variant", Variant, (graph.digest, recipe), make, tools=TOOLS)


def _retyped(graph: Graph, recipe: Recipe, workspace: Workspace, images: Images, progress: Progress) -> Variant:
    """fp16 and bf16: every operator computes in 16 bits."""

    def rewrite(model: ir.Model) -> tuple[str, ...]:
        return *retype(model, recipe.precision, recipe.exclude), *_opset_notes(recipe, model_file.opset(model))

    return _rewritten(graph, graph, recipe, workspace, (), rewrite)


def _dynamic(graph: Graph, recipe: Recipe, workspace: Workspace, images: Images, progress: Progress) -> Variant:
    """int8-dynamic: weights in 8 bits, activations quantized as they come."""
    largest, source = largest_weight(), _smoothed(graph, recipe, workspace, images, progress)

    def rewrite(model: ir.Model) -> tuple[str, ...]:
        return *quantize_dynamically(model, recipe, largest), _range_note(largest)

    return _rewritten(graph, source, recipe, workspace, largest, rewrite)


def _calibrated(graph: Graph, recipe: Recipe, workspace: Workspace, images: Images, progress: Progress) -> Variant:
    """int8 and fp8: Q/DQ pairs with calibrated scales, in a model of the high-precision type."""
    _check_high_precision(recipe)
    cpu, high = recipe.resolved_layout == "cpu", recipe.resolved_high_precision
    largest, saturating = largest_weight() if cpu else FULL_RANGE, saturates()
    # Below the opset where QuantizeLinear takes 16-bit floats, scales stay float32; see casts.retype.
    stored = numpy_type(high if least_opset(graph, recipe) >= HALF_SCALES_OPSET else "fp32")
    source = _smoothed(graph, recipe, workspace, images, progress)
    ranges = calibrate(source, images, workspace, scope=recipe.scope, progress=progress)

    def rewrite(model: ir.Model) -> tuple[str, ...]:
        # A layer whose weights FP16 cannot hold is left alone: its 8 bits would reach a float through FP16.
        exclude = (*recipe.exclude, *layers_beyond(model, high))
        inserted = quantize(
            model, recipe, ranges, layout_of(recipe, largest), stored, lambda node: not excluded(node, exclude)
        )
        notes = (*inserted, *retype(model, high), *_overflow_notes(ranges, high))
        if cpu:
            return *notes, _range_note(largest)
        return *notes, *_tensorrt_notes(recipe, saturating), *_opset_notes(recipe, model_file.opset(model))

    return _rewritten(graph, source, recipe, workspace, (ranges.digest, largest, saturating), rewrite)


def _block_scaled(
    graph: Graph, recipe: Recipe, workspace: Workspace, images: Images, progress: Progress
) -> Variant:
    """nvfp4, mxfp8 and wfp4: linear layers in blocks with a scale each, in a model of the high-precision type."""
    high, source = recipe.resolved_high_precision, _smoothed(graph, recipe, workspace, images, progress)
    ranges = calibrate(source, images, workspace, progress=progress) if recipe.needs_ranges else None

    def rewrite(model: ir.Model) -> tuple[str, ...]:
        exclude = (*recipe.exclude, *layers_beyond(model, high))
        layers, notes = block_layers(model, recipe, lambda node: not excluded(node, exclude), ranges)
        notes = (*notes, *retype(model, high), *(_overflow_notes(ranges, high) if ranges else ()))
        quantize_blocks(model, layers, recipe.precision)
        return *notes, *_block_notes(recipe), *_scope_notes(recipe)

    return _rewritten(graph, source, recipe, workspace, ranges.digest if ranges else "", rewrite)


def _weight_only(graph: Graph, recipe: Recipe, workspace: Workspace, images: Images, progress: Progress) -> Variant:
    """w8 and w4: weights in few bits, expanded before the products, in a model of the high-precision type."""
    _check_high_precision(recipe)
    high, source = recipe.resolved_high_precision, _smoothed(graph, recipe, workspace, images, progress)
    stored = numpy_type(high if least_opset(graph, recipe) >= HALF_SCALES_OPSET else "fp32")

    def rewrite(model: ir.Model) -> tuple[str, ...]:
        exclude = (*recipe.exclude, *layers_beyond(model, high))
        notes = quantize_weights(model, recipe, stored, lambda node: not excluded(node, exclude))
        notes = (*notes, *retype(model, high), *_weight_notes(recipe), *_scope_notes(recipe))
        cpu = recipe.resolved_layout == "cpu"
        return notes if cpu else (*notes, *_opset_notes(recipe, model_file.opset(model)))

    return _rewritten(graph, source, recipe, workspace, (), rewrite)


LOWERINGS = {
    "fp32": _as_it_is,
    "fp16": _retyped,
    "bf16": _retyped,
    "int8": _calibrated,
    "fp8": _calibrated,
    "int8-dynamic": _dynamic,
    "mxfp8": _block_scaled,
    "nvfp4": _block_scaled,
    "w8": _weight_only,
    "w4": _weight_only,
    "wfp4": _block_scaled,
}


def _smoothed(graph: Graph, recipe: Recipe, workspace: Workspace, images: Images, progress: Progress) -> Graph:
    return graph if recipe.smooth is None else smoothed(graph, recipe.smooth, images, workspace, progress)


def _rewritten(
    graph: Graph,
    source: Graph,
    recipe: Recipe,
    workspace: Workspace,
    inputs,
    rewrite: Callable[[ir.Model], tuple[str, ...]],
) -> Variant:
    """The variant of ``graph`` that ``rewrite`` makes of the prepared model of ``source``; it returns notes."""

    def make(folder: Path, key: str) -> Variant:
        model = prepare(source, least_opset(graph, recipe))
        check_excluded(model, recipe)
        rounded = PRECISIONS[recipe.precision].layouts and recipe.scope != "everything"
        left = unquantized_notes(model) if rounded else ()
        notes = (*unnamed_notes(model), *left, *rewrite(model))
        path = model_file.save(model, folder)
        return Variant(path, key, graph, recipe, model_file.opset(model), runtimes_of(recipe), notes)

    return workspace.artefact("variant", Variant, (graph.digest, source.digest, recipe, inputs), make, tools=TOOLS)


def least_opset(graph: Graph, recipe: Recipe) -> int:
    """The graph's opset, or the first whose operators take the recipe's types."""
    return max(graph.opset, *(TYPES[name].first_opset for name in recipe.types))


def _check_high_precision(recipe: Recipe) -> None:
    refuse_unless(
        recipe.resolved_layout != "cpu" or recipe.resolved_high_precision != "bf16",
        "The cpu layout cannot have BF16 as its high precision",
        why="ONNX Runtime has no BF16 kernels for the CPU",
        remedy="leave high_precision out, or choose layout='tensorrt'",
    )


# ---- notes -------------------------------------------------------------------------------------------------------


def _overflow_notes(ranges: Ranges, high: str) -> tuple[str, ...]:
    """What calibration saw beyond FP16's largest number: casts before a pair would make it infinite."""
    worst, largest = max(ranges.rows, key=lambda row: row.minmax), TYPES["fp16"].largest
    if high != "fp16" or worst.minmax <= largest:
        return ()
    reach = f"{worst.tensor} reaches {worst.minmax:.4g}, beyond FP16's {largest:,.0f}"
    return (f"{reach}: choose another high_precision than fp16",)


def _range_note(largest: float) -> str:
    if largest == FULL_RANGE:
        return "weights use all of ±127, which saturates on x86 without VNNI; it does not on this machine"
    return f"weights use ±{largest}, because 8-bit products saturate on this CPU"


def _tensorrt_notes(recipe: Recipe, saturating: bool) -> tuple[str, ...]:
    notes = []
    if recipe.precision == "int8" and saturating:
        notes.append(
            "8-bit products saturate on this CPU: on ONNX Runtime measure this layout with optimization='none'"
        )
    if recipe.resolved_high_precision == "fp32":
        notes.append("TensorRT does not fuse float32 attention: beside 8-bit layers it is slower than FP16")
    return tuple(notes)


def _block_notes(recipe: Recipe) -> tuple[str, ...]:
    expanded = {
        "mxfp8": "expands MXFP8 and multiplies in {}",
        "wfp4": "expands the weights of every product anew in each call, and multiplies in {}",
    }
    if recipe.precision not in expanded:
        return ()
    what = expanded[recipe.precision].format(recipe.resolved_high_precision)
    return (f"TensorRT for RTX 1.7 {what}; its list of layers says so",)


def _weight_notes(recipe: Recipe) -> tuple[str, ...]:
    if recipe.precision != "w4":
        return ()
    return (
        "ONNX Runtime's MatMulNBits rounds activations to 8 bits; optimization='none' runs the file as written",
    )


def _scope_notes(recipe: Recipe) -> tuple[str, ...]:
    if recipe.scope == "linear":
        return ()
    return (f"the scope {recipe.scope} changes nothing here: {recipe.precision} quantizes linear layers only",)


def _opset_notes(recipe: Recipe, opset: int) -> tuple[str, ...]:
    """A note where only the opset keeps TensorRT 8.6 from the file; it lacks the types that ONNX Runtime lacks."""
    if opset <= TENSORRT_8_OPSET or not recipe.types.isdisjoint(NO_KERNELS):
        return ()
    return (f"opset {opset}: TensorRT 8.6 reads {TENSORRT_8_OPSET} and below; export with opset=17",)
