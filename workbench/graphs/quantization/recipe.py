"""From a graph and a recipe to a variant: the ONNX file whose precision is written into its nodes."""

from __future__ import annotations

from pathlib import Path

from ...errors import refuse_unless
from ...progress import Progress, silent
from ...records import Graph, Recipe, Variant
from ...workspace import Workspace
from .. import model_file
from .activations import check_graph
from .casts import FP16_MAX, layers_beyond, retype
from .dynamic import quantize_dynamically
from .prepare import prepare
from .qdq import layout_of, quantize
from .qdq_sites import check_excluded, excluded, unnamed_notes
from .ranges import Ranges, calibrate
from .saturation import FULL_RANGE, largest_weight, saturates
from .scales import FLOAT_TYPES, HALF_SCALES_OPSET
from .smoothquant import smoothed

#: What shapes a variant beside its inputs: a change in any of these makes a new file.
TOOLS = ("onnx", "onnx-ir", "onnxscript", "ml_dtypes", "numpy")

ONNXRUNTIME, TENSORRT = ("onnxruntime",), ("tensorrt", "tensorrt-rtx")
EVERYWHERE = ONNXRUNTIME + TENSORRT
#: The last opset that TensorRT 8.6 reads.
TENSORRT_8_OPSET = 17


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
        progress: see ``progress.Progress``.

    Returns:
        The variant: its ONNX file, the runtimes that take it, and notes on what a reader of its numbers must know.

    Raises:
        WorkbenchError: the graph is quantized already, a name in ``keep`` is unknown, the calibration images are
            missing, too few, of a wrong shape or type, or an activation is not finite.
    """
    check_graph(graph)
    refuse_unless(
        isinstance(recipe, Recipe),
        "A graph is changed by a Recipe",
        why=f"given was {recipe!r}",
        remedy="write Recipe(precision='int8')",
    )
    return LOWERINGS[recipe.precision](graph, recipe, Workspace.of(workspace), calibration, progress or silent)


def foreseen(graph: Graph, recipe: Recipe) -> Variant:
    """The variant as ``apply_recipe`` would describe it, without its file: to ask a backend what it would refuse.

    Raises:
        WorkbenchError: no variant can be made, because layout and rest do not go together.
    """
    if recipe.needs_ranges:
        _check_rest(_on_cpu(recipe), _rest(recipe))
    return Variant(graph.path, "", graph, recipe, _least_opset(graph, recipe), runtimes_of(recipe))


def runtimes_of(recipe: Recipe) -> tuple[str, ...]:
    """The runtimes that take the file which a recipe makes."""
    if recipe.precision == "int8-dynamic" or _on_cpu(recipe):
        return ONNXRUNTIME
    return TENSORRT if {"bf16", "fp8"} & _types(recipe) else EVERYWHERE


def _on_cpu(recipe: Recipe) -> bool:
    return recipe.precision == "int8" and recipe.layout == "cpu"  # FP8 has one layout


def _rest(recipe: Recipe) -> str:
    return recipe.high_precision or ("fp32" if _on_cpu(recipe) else "fp16")


def _types(recipe: Recipe) -> set[str]:
    return {recipe.precision, _rest(recipe)} if recipe.needs_ranges else {recipe.precision}


def _float32(graph, recipe, workspace, calibration, progress) -> Variant:
    def make(folder: Path, key: str) -> Variant:
        check_excluded(model_file.load(graph.path), recipe)  # here a file is refused that is no model
        return Variant(graph.path, key, graph, recipe, graph.opset, EVERYWHERE)

    return workspace.artefact("variant", Variant, (graph.digest, recipe), make, tools=TOOLS)


def _half(graph, recipe, workspace, calibration, progress) -> Variant:
    def rewrite(model):
        return *retype(model, recipe.precision, recipe.exclude), *_opset_notes(recipe, model_file.opset(model))

    return _rewritten(graph, recipe, workspace, (), rewrite, graph)


def _dynamic(graph, recipe, workspace, calibration, progress) -> Variant:
    largest, source = largest_weight(), _smoothed(graph, recipe, workspace, calibration, progress)

    def rewrite(model):
        return *quantize_dynamically(model, recipe, largest), _range_note(largest)

    return _rewritten(graph, recipe, workspace, largest, rewrite, source)


def _quantized(graph, recipe, workspace, calibration, progress) -> Variant:
    cpu, rest, opset = _on_cpu(recipe), _rest(recipe), _least_opset(graph, recipe)
    _check_rest(cpu, rest)
    largest, saturating = largest_weight() if cpu else FULL_RANGE, saturates()
    layout = layout_of(recipe, largest)
    # Below the opset where QuantizeLinear takes 16-bit floats, scales stay float32; see precision.retype.
    stored = FLOAT_TYPES[rest if opset >= HALF_SCALES_OPSET else "fp32"]
    images = recipe.calibration if calibration is None else calibration
    source = _smoothed(graph, recipe, workspace, calibration, progress)
    ranges = calibrate(source, images, workspace, scope=recipe.scope, progress=progress)

    def rewrite(model):
        keep = (*recipe.exclude, *layers_beyond(model, rest))  # 8 bits would reach a float through FP16
        inserted = quantize(model, recipe, ranges, layout, stored, lambda node: not excluded(node, keep))
        notes = [*inserted, *retype(model, rest), *_overflow_notes(ranges, rest)]
        if cpu:
            return *notes, _range_note(largest)
        return *notes, *_tensorrt_notes(recipe, rest, saturating), *_opset_notes(recipe, model_file.opset(model))

    inputs = (ranges.digest, largest, saturating)
    return _rewritten(graph, recipe, workspace, inputs, rewrite, source)


LOWERINGS = {
    "fp32": _float32,
    "fp16": _half,
    "bf16": _half,
    "int8": _quantized,
    "fp8": _quantized,
    "int8-dynamic": _dynamic,
}


def _smoothed(graph, recipe, workspace, calibration, progress) -> Graph:
    if recipe.smooth is None:
        return graph
    images = recipe.calibration if calibration is None else calibration
    return smoothed(graph, recipe.smooth, images, workspace, progress)


def _rewritten(graph, recipe, workspace, inputs, rewrite, source) -> Variant:
    """The artefact that ``rewrite`` makes of the prepared model of ``source``; it returns notes."""

    def make(folder: Path, key: str) -> Variant:
        model = prepare(source, _least_opset(graph, recipe))
        check_excluded(model, recipe)
        notes = (*unnamed_notes(model), *rewrite(model))
        path = model_file.save(model, folder)
        return Variant(path, key, graph, recipe, model_file.opset(model), runtimes_of(recipe), notes)

    return workspace.artefact("variant", Variant, (graph.digest, source.digest, recipe, inputs), make, tools=TOOLS)


def _least_opset(graph: Graph, recipe: Recipe) -> int:
    """The graph's opset, or the first whose operators take the recipe's types: QuantizeLinear FP8, Conv BF16."""
    return max(graph.opset, *({"fp8": 19, "bf16": 22}.get(name, 0) for name in _types(recipe)))


def _check_rest(cpu: bool, rest: str) -> None:
    refuse_unless(
        not (cpu and rest == "bf16"),
        "The cpu layout cannot have a BF16 rest",
        why="ONNX Runtime has no BF16 kernels for the CPU",
        remedy="leave rest out, or choose layout='tensorrt'",
    )


def _overflow_notes(ranges: Ranges, rest: str) -> list[str]:
    """What calibration saw beyond FP16's reach: casts before a pair would make it infinite."""
    worst = max(ranges.rows, key=lambda row: row.minmax)
    if rest != "fp16" or worst.minmax <= FP16_MAX:
        return []
    return [
        f"{worst.tensor} reaches {worst.minmax:.4g}, beyond FP16's {FP16_MAX:,.0f}: choose another rest than fp16"
    ]


def _range_note(largest: int) -> str:
    if largest == FULL_RANGE:
        return "weights use all of ±127, which saturates on x86 without VNNI; it does not on this machine"
    return f"weights use ±{largest}, because 8-bit products saturate on this CPU"


def _tensorrt_notes(recipe: Recipe, rest: str, saturating: bool) -> list[str]:
    notes = []
    if recipe.precision == "int8" and saturating:
        notes.append(
            "8-bit products saturate on this CPU: on ONNX Runtime measure this layout with optimization='none'"
        )
    if rest == "fp32":
        notes.append("TensorRT does not fuse float32 attention: beside 8-bit layers it is slower than FP16")
    return notes


def _opset_notes(recipe: Recipe, opset: int) -> list[str]:
    unknown_to_8 = {"bf16", "fp8"} & _types(recipe)  # at any opset
    return (
        []
        if opset <= TENSORRT_8_OPSET or unknown_to_8
        else [f"opset {opset}: TensorRT 8.6 reads {TENSORRT_8_OPSET} and below; export with opset=17"]
    )
