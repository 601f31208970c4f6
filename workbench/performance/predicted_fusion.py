"""Will TensorRT compute attention in one kernel? Predicted before a build, from model, recipe and card."""

from __future__ import annotations

from ..backends.hardware.cards import capability
from ..backends.tensorrt.attention_kernels import Prediction, predict_attention, without_tensor_cores
from ..dtypes import TYPES
from ..errors import refuse_unless
from ..places import block_name, is_excluded
from ..records import ModelSpec, Recipe
from .attention_types import attention_types
from .fusion import COLUMNS, frame_of


def predict_fusion(spec: ModelSpec, recipe: Recipe, card: str):
    """What ``fusion`` will find after a build, from head size, tokens, types and architecture.

    The rules are those of TensorRT for RTX 1.7 (``backends.tensorrt.attention_kernels``); tests compare them with
    builds.

    Args:
        spec: the model's shape.
        recipe: of the variant.
        card: the GPU to build for, such as ``T4`` or ``SM86``.

    Returns:
        A pandas data frame with a row per block: ``block``, ``attention_fused``, ``attention_type`` and ``reason``.

    Raises:
        WorkbenchError: the card is not known, or the recipe is for ONNX Runtime on a CPU only.
    """
    return frame_of(predicted_rows(spec, recipe, card))


def predicted_rows(spec: ModelSpec, recipe: Recipe, card: str) -> list[dict]:
    """``predict_fusion`` as plain rows."""
    refuse_unless(
        isinstance(spec, ModelSpec) and isinstance(recipe, Recipe),
        "Fusion is predicted from a model's shape and a recipe",
        why=f"given were {type(spec).__name__} and {type(recipe).__name__}",
        remedy="write predict_fusion(graph.spec, Recipe('fp16'), 'T4'); a graph without a spec has no known shape",
    )
    refuse_unless(
        recipe.precision != "int8-dynamic",
        "int8-dynamic has no fused attention to predict",
        why="it is a precision of ONNX Runtime on the CPU",
        remedy="choose any other precision",
    )
    sm = capability(card)
    never = _never_built(recipe, sm)
    return [_predicted_row(block_name(index), spec, recipe, sm, never) for index in range(spec.depth)]


def _never_built(recipe: Recipe, sm: int) -> Prediction | None:
    if recipe.resolved_layout == "cpu":
        return Prediction(False, None, "layout='cpu' is for ONNX Runtime; TensorRT refuses such a file")
    lacking = [name for name in sorted(recipe.types) if not TYPES[name].runs_on(sm)]
    return without_tensor_cores(lacking[0], sm) if lacking else None


def _predicted_row(block: str, spec: ModelSpec, recipe: Recipe, sm: int, never: Prediction | None) -> dict:
    if never:
        return dict(zip((*COLUMNS, "reason"), (block, *never)))
    high, low, sites = attention_types(recipe, block)
    joined = spec.heads == 1 and not is_excluded(f"{block}/attention/proj", recipe.exclude)
    answer = predict_attention(high, low, sites, head_size=spec.head_size, tokens=spec.tokens, sm=sm, joined=joined)
    return dict(zip((*COLUMNS, "reason"), (block, *answer)))
