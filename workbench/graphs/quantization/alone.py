"""A recipe's low precision in some places of a float32 model, everything else as it is: a model for ONNX Runtime.

Sensitivity and search compare such models, so that only the rounding of the chosen places counts. ``LOW`` names the
function that writes each precision.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from ...records import PRECISIONS, Recipe
from ..structure.values import numpy_type
from .block_emulation import expand_blocks
from .block_scaled import block_layers, quantize_blocks
from .qdq import quantize
from .ranges import Ranges
from .saturation import largest_weight
from .scales import layout_of
from .weight_only import quantize_weights

Chosen = Callable[[ir.Node], bool]


def quantize_alone(model: ir.Model, recipe: Recipe, ranges: Ranges | None, chosen: Chosen) -> None:
    """Quantize the chosen nodes of a recipe's scope in a float32 model, in place.

    Args:
        model: changed in place; blocks of floats are emulated in it, see ``block_emulation``.
        recipe: of a precision in ``LOW``.
        ranges: of the activations in its scope; None where nothing is calibrated.
        chosen: which nodes are quantized.
    """
    LOW[recipe.precision](model, recipe, ranges, chosen)


def scope_of(recipe: Recipe) -> str:
    """The scope that counts: some precisions quantize linear layers only."""
    return "linear" if PRECISIONS[recipe.precision].linear_only else recipe.scope


def _pairs(model: ir.Model, recipe: Recipe, ranges: Ranges | None, chosen: Chosen) -> None:
    if ranges is None:
        raise ValueError(f"{recipe.precision} needs ranges")
    quantize(model, recipe, ranges, layout_of(recipe, largest_weight()), numpy_type("fp32"), chosen)


def _blocks(model: ir.Model, recipe: Recipe, ranges: Ranges | None, chosen: Chosen) -> None:
    layers, _ = block_layers(model, recipe, chosen, ranges)
    quantize_blocks(model, layers, recipe.precision)
    expand_blocks(model)


def _weights(model: ir.Model, recipe: Recipe, ranges: Ranges | None, chosen: Chosen) -> None:
    quantize_weights(model, recipe, numpy_type("fp32"), chosen)


LOW = {
    "int8": _pairs,
    "fp8": _pairs,
    "mxfp8": _blocks,
    "nvfp4": _blocks,
    "w8": _weights,
    "w4": _weights,
    "wfp4": _blocks,
}
