"""Will TensorRT compute attention in one kernel? Predicted before a build, from model, recipe and card."""

from __future__ import annotations

from typing import NamedTuple

from ..backends.hardware.cards import capability
from ..backends.tensorrt.attention_kernels import Prediction, predict_attention, without_tensor_cores
from ..dtypes import TYPES
from ..errors import refuse_unless
from ..graphs.analysis.inspect import Inspection
from ..graphs.structure.placement import read
from ..places import block_name, is_excluded
from ..records import Graph, ModelSpec, Recipe
from .attention_types import attention_types
from .fusion import COLUMNS, frame_of


class Shape(NamedTuple):
    """An attention: its block, or its place outside them, and its sizes; None where the file leaves one open."""

    block: str
    heads: int | None
    head_size: int | None
    tokens: int | None


def predict_fusion(spec: ModelSpec | Graph | Inspection, recipe: Recipe, card: str):
    """What ``fusion`` will find after a build, from head size, tokens, types and architecture.

    The rules are those of TensorRT for RTX 1.7 (``backends.tensorrt.attention_kernels``); tests compare them with
    builds.

    Args:
        spec: the model's shape; or a graph, or what ``inspect`` found in one, whose attentions may differ in size.
        recipe: of the variant.
        card: the GPU to build for, such as ``T4`` or ``SM86``.

    Returns:
        A pandas data frame with a row per block: ``block``, ``attention_fused``, ``attention_type`` and ``reason``.

    Raises:
        WorkbenchError: the card is not known, the recipe is for ONNX Runtime on a CPU only, or the graph has no
            attention.
    """
    rows = predicted_rows(spec, recipe, card)
    refuse_unless(
        bool(rows),
        "There is no attention to predict",
        why="no softmax stands between two products of activations",
        remedy="ask about a Vision Transformer",
    )
    return frame_of(rows)


def predicted_rows(spec: ModelSpec | Graph | Inspection, recipe: Recipe, card: str) -> list[dict]:
    """``predict_fusion`` as plain rows."""
    refuse_unless(
        isinstance(spec, ModelSpec | Graph | Inspection) and isinstance(recipe, Recipe),
        "Fusion is predicted from a model and a recipe",
        why=f"given were {type(spec).__name__} and {type(recipe).__name__}",
        remedy="write predict_fusion(graph, Recipe('fp16'), 'T4')",
    )
    refuse_unless(
        recipe.precision != "int8-dynamic",
        "int8-dynamic has no fused attention to predict",
        why="it is a precision of ONNX Runtime on the CPU",
        remedy="choose any other precision",
    )
    sm = capability(card)
    never = _never_built(recipe, sm)
    return [_predicted_row(shape, recipe, sm, never) for shape in shapes_of(spec)]


def shapes_of(model: ModelSpec | Graph | Inspection) -> list[Shape]:
    """Every attention of a model."""
    if isinstance(model, ModelSpec):
        return [Shape(block_name(i), model.heads, model.head_size, model.tokens) for i in range(model.depth)]
    placed = read(model.path)
    return [
        Shape(placed.block_of(each) or placed.where(each.softmax), each.heads, each.head_size, each.tokens)
        for each in placed.attentions
    ]


def _never_built(recipe: Recipe, sm: int) -> Prediction | None:
    if recipe.resolved_layout == "cpu":
        return Prediction(False, None, "layout='cpu' is for ONNX Runtime; TensorRT refuses such a file")
    lacking = [name for name in sorted(recipe.types) if not TYPES[name].runs_on(sm)]
    return without_tensor_cores(lacking[0], sm) if lacking else None


def _predicted_row(shape: Shape, recipe: Recipe, sm: int, never: Prediction | None) -> dict:
    block = shape.block
    if never:
        return dict(zip((*COLUMNS, "reason"), (block, *never)))
    if shape.head_size is None or shape.tokens is None:
        unknown = Prediction(None, None, "the file leaves its head size or its tokens open")
        return dict(zip((*COLUMNS, "reason"), (block, *unknown)))
    high, low, sites = attention_types(recipe, block)
    joined = shape.heads == 1 and not is_excluded(f"{block}/attention/proj", recipe.exclude)
    sizes = {"head_size": shape.head_size, "tokens": shape.tokens}
    answer = predict_attention(high, low, sites, **sizes, sm=sm, joined=joined)
    return dict(zip((*COLUMNS, "reason"), (block, *answer)))
