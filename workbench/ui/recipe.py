"""Choose a recipe; the button makes the variant."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ipywidgets as widgets

from ..backends import REGISTRY, backend
from ..graphs.quantization.recipe import apply_recipe, foreseen
from ..performance.predicted_fusion import predicted_rows
from ..places import block_name
from ..progress import Progress
from ..records import (
    CORRUPTIONS,
    DYNAMIC,
    LAYOUTS,
    METHODS,
    PRECISIONS,
    ROLES,
    SCOPES,
    Calibration,
    Graph,
    Recipe,
    Variant,
)
from . import controls
from .panel import Panel

PRECISION_HINTS = {
    "fp32": "32-bit floats: the model as it was exported",
    "fp16": "16-bit floats: half the bytes; on a GPU usually twice as fast, at no loss of accuracy",
    "bf16": "bfloat16: the range of fp32 with the precision of 8 bits",
    "fp8": "8-bit floats: for Ada, Hopper and later GPUs",
    "int8": "8-bit integers; the ranges of activations are found beforehand on calibration images",
    "int8-dynamic": "8-bit integers; the ranges of activations are found anew in every call (CPU)",
    "mxfp8": "8-bit floats in blocks of 32 with a power of two each: for Blackwell GPUs; nothing is calibrated",
    "nvfp4": "4-bit floats in blocks of 16 with a scale each: for Blackwell GPUs",
    "w8": "weights in 8-bit integers, products in the type beside them: less memory, nothing is calibrated",
    "w4": "weights in 4-bit integers in blocks of 32, products in the type beside them",
    "wfp4": "weights in 4-bit floats in blocks of 16, products in the type beside them: for Blackwell GPUs",
}
SCOPE_WORDS = {
    "linear": "the linear layers only",
    "attention": "the linear layers and attention",
    "everything": "every operator, LayerNorm and residuals too (shows what breaks; not recommended)",
}
LAYOUT_WORDS = {"tensorrt": "as TensorRT wants them", "cpu": "as a CPU runtime wants them"}
CORRUPTION_WORDS = {
    "plain": "as they are",
    "dark": "darkened",
    "noisy": "with noise added",
    "one-class": "all of one class",
    "random-noise": "pure noise, no image at all",
}
METHOD_WORDS = {
    "minmax": "the smallest and largest value seen (minmax)",
    "percentile": "cutting off the outermost values (percentile)",
    "entropy": "keeping the distribution as it is (entropy)",
    "mse": "the least squared rounding error (mse)",
    "dynamic": "none: scales follow each activation (dynamic)",
}
DATASETS = ("shapes", "cifar10")
#: The choice "by layout" (``high_precision=None``); with None as its value the list would show no choice.
BY_LAYOUT = ""


def recipe_panel(
    graph: Graph,
    workspace,
    recipe: Recipe | None = None,
    *,
    calibration=None,
    work: Callable[[Recipe, Progress], Any] | None = None,
    show: Callable[[Any], widgets.Widget | None] | None = None,
    card: str | None = None,
) -> Panel:
    """Choose what to do to a graph; ``panel.result()`` is the variant.

    Args:
        graph: what ``export_onnx`` or ``import_onnx`` made.
        workspace: a ``Workspace`` or a folder's path.
        recipe: what the panel starts from; ``panel.value`` equals it until a choice is changed.
        calibration: images to calibrate on instead of the recipe's data set, as ``apply_recipe`` takes them.
        work: done with the chosen recipe instead of ``apply_recipe``.
        show: what the panel shows of the result, instead of the facts of a variant.
        card: a GPU; the panel says whether attention will be fused there.
    """

    def make(chosen: Recipe, progress: Progress) -> Variant:
        return apply_recipe(graph, chosen, workspace, calibration=calibration, progress=progress)

    seed = recipe or Recipe()
    rows = _controls(seed, _places(graph))

    def read() -> Recipe:
        return _read(seed, rows)

    def advise(chosen: Recipe) -> list[str]:
        _hide_controls_without_effect(chosen, rows)
        return [*_refusals(graph, chosen), *_unfused(graph, chosen, card)]

    precision = controls.labelled("Compute the products in", rows["precision"])
    return Panel(
        "recipe",
        [precision, *list(rows.values())[1:]],
        read,
        work or make,
        verb="Make this variant",
        advise=advise,
        preview=lambda chosen: foreseen(graph, chosen),
        show=show or _show,
    )


def _places(graph: Graph) -> list[str]:
    """Blocks first, then the products in them; none for an imported graph whose shape is unknown."""
    blocks = [block_name(i) for i in range(graph.spec.depth)] if graph.spec else []
    return blocks + [f"{block}/{role}" for block in blocks for role in ROLES]


def _controls(recipe: Recipe, places: Sequence[str]) -> controls.Controls:
    c, calibration = controls, recipe.calibration
    high = [
        ("the layout's own: fp16 for TensorRT, fp32 for a CPU", BY_LAYOUT),
        ("fp32", "fp32"),
        ("fp16", "fp16"),
        ("bf16", "bf16"),
    ]
    return {
        "precision": c.buttons(
            "precision", tuple(PRECISIONS), [PRECISION_HINTS[name] for name in PRECISIONS], recipe.precision
        ),
        "scope": c.dropdown("scope", "Apply this to", worded(SCOPES, SCOPE_WORDS), recipe.scope),
        "layout": c.dropdown("layout", "Place the Q/DQ pairs", worded(LAYOUTS, LAYOUT_WORDS), recipe.layout),
        "high_precision": c.dropdown(
            "high-precision", "Compute everything else in", high, recipe.high_precision or BY_LAYOUT
        ),
        "dataset": c.text("dataset", "Find the ranges on images of", calibration.dataset, DATASETS),
        "variant": c.dropdown(
            "variant", "Show these images", worded(CORRUPTIONS, CORRUPTION_WORDS), calibration.variant
        ),
        "method": c.dropdown("method", "Set each range by", worded(METHODS, METHOD_WORDS), _method(recipe)),
        "samples": c.integer("samples", "Number of images", calibration.samples, 1, 100_000),
        "smooth": c.checkbox(
            "smooth", "Move outliers from activations into weights first (SmoothQuant)", recipe.smooth is not None
        ),
        "alpha": c.slider("alpha", "with a strength (alpha) of", _alpha(recipe), 1.0),
        "exclude": c.multiple("exclude", "Leave these as they are", places, recipe.exclude),
    }


def worded(values: Iterable[str], words: dict[str, str]) -> list[tuple[str, str]]:
    """Pairs of (sentence, value) for ``controls.dropdown``."""
    return [(words[value], value) for value in values]


def _method(recipe: Recipe) -> str:
    return Calibration().method if recipe.calibration.method == DYNAMIC else recipe.calibration.method


def _asks_for_method(precision: str) -> bool:
    """Whether a precision has ranges to choose; for nvfp4 the seed decides whether it has a calibrated scale."""
    return PRECISIONS[precision].calibrated and not PRECISIONS[precision].linear_only


def _alpha(recipe: Recipe) -> float:
    return 0.5 if recipe.smooth is None else recipe.smooth


def _read(seed: Recipe, rows: controls.Controls) -> Recipe:
    """The recipe that the controls show; fields without a control keep the seed's values."""
    chosen = {name: row.value for name, row in rows.items()}
    if seed.calibration.method == DYNAMIC and not _asks_for_method(chosen["precision"]):
        chosen["method"] = DYNAMIC
    calibration: Calibration = dataclasses.replace(
        seed.calibration, **{name: chosen[name] for name in ("dataset", "variant", "method", "samples")}
    )
    given = {name: place for place, name in enumerate(seed.exclude)}  # stays in the given order
    return dataclasses.replace(
        seed,
        **{name: chosen[name] for name in ("precision", "scope", "layout")},
        high_precision=chosen["high_precision"] or None,
        calibration=calibration,
        smooth=controls.exact(rows["alpha"], _alpha(seed)) if chosen["smooth"] else None,
        exclude=tuple(sorted(chosen["exclude"], key=lambda name: given.get(name, len(given)))),
    )


def _hide_controls_without_effect(recipe: Recipe, rows: controls.Controls) -> None:
    """Hide each control that has no effect in this precision."""
    precision = PRECISIONS[recipe.precision]
    layouts = precision.layouts  # empty where nothing is quantized
    quantizes = bool(layouts)
    seen = recipe.needs_ranges or (quantizes and recipe.smooth is not None)  # whether images are calibrated on
    effective = dict.fromkeys(("dataset", "variant", "samples"), seen)
    effective |= {
        "scope": quantizes and not precision.linear_only,
        "method": _asks_for_method(recipe.precision),
        "high_precision": recipe.is_mixed,
        "layout": len(layouts) > 1,
        "exclude": recipe.precision != "fp32",
        "smooth": quantizes,
        "alpha": quantizes and recipe.smooth is not None,
    }
    for name, needed in effective.items():
        rows[name].layout.display = None if needed else "none"


def _refusals(graph: Graph, recipe: Recipe) -> list[str]:
    """Which backends refuse the variant; those with the same reason are named together."""
    variant, names = foreseen(graph, recipe), {}
    for name in REGISTRY:
        if refusal := backend(name).refuses(variant):
            names.setdefault(refusal, []).append(name)
    return [
        f"{' and '.join(them)} will not take it: {refusal.reason}. What to do: {refusal.remedy}."
        for refusal, them in names.items()
    ]


def _unfused(graph: Graph, recipe: Recipe, card: str | None) -> list[str]:
    """Why attention will not be fused on a card, and in which blocks."""
    if card is None or recipe.precision == "int8-dynamic":
        return []
    blocks = {}
    for row in predicted_rows(graph.spec or graph, recipe, card):
        if row["attention_fused"] is False:
            blocks.setdefault(row["reason"], []).append(row["block"])
    return [f"On {card} the attention of {_some(names)} will not be fused: {why}." for why, names in blocks.items()]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{names[0]} to {names[-1]} ({len(names)} blocks)"


def _show(variant: Variant) -> widgets.Widget:
    facts = [
        f"{variant.recipe.label}: opset {variant.opset}, {variant.path.stat().st_size / 2**20:.1f} MiB",
        f"Runs on: {', '.join(variant.runtimes) or 'no runtime known'}",
        *variant.notes,
    ]
    return widgets.HTML("".join(map(controls.paragraph, facts)))
