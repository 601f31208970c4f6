"""In which type does each product of an engine multiply? Read from its layers, or from kernels where they hide it.

A file that holds 4-bit numbers proves nothing: a compiler may expand them in front of the product, as TensorRT for
RTX 1.7 does with MXFP8 and with FP4 weights alone. A product multiplies in FP4 where its kernel reads FP4 on both
sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..backends.tensorrt.layers import Layer, narrowest
from ..records import Engine
from .engine_kernels import known_kernels
from .fusion import named_layers
from .layers import LINEAR

COLUMNS = ("block", "role", "reads", "weights", "scales", "multiplies_in", "kernel")


def products(engine: Engine):
    """The matrix products of a built engine, each with the types that prove how it multiplies.

    Returns:
        A pandas data frame with a row per product, in the order of execution: ``block``, None outside the blocks;
        ``role``, where a fused attention is ``scores``; ``reads``, the narrowest type of its activations;
        ``weights``, the narrowest type of its constants, or of those that a kernel expands for it, None where there
        are none; ``scales``, the type of the scales of blocks that it applies, or None; ``multiplies_in``, the
        wider one of both sides; ``kernel``, its name.

    Raises:
        WorkbenchError: the engine has no list of layers, or none of its layers carries the name of a ViT's node.
    """
    import pandas as pd

    layers = named_layers(engine)
    if any(layer.is_opaque for layer in layers) and (known := known_kernels(engine)):
        layers = [one.layer for one in known[0]]
    expanded = {name: layer.weights for layer in layers if not layer.inputs for name in layer.writes}
    rows = [row for layer in layers for row in product_rows(layer, expanded)]
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in COLUMNS})


def product_rows(layer: Layer, expanded: Mapping[str, str | None] = MappingProxyType({})) -> list[dict]:
    """A row per role whose product a layer computes; none where it computes no product.

    Args:
        layer: of an engine.
        expanded: tensor -> the type of the constants that a kernel without other inputs makes it of.
    """
    if not (layer.is_product or layer.is_attention):
        return []
    roles = ("scores",) if layer.is_attention else (*LINEAR, "scores")
    places = dict.fromkeys((place.block, place.role) for place in layer.places if place.role in roles)
    types = {
        "reads": narrowest(layer.inputs),
        "weights": next((expanded[name] for name in layer.reads if expanded.get(name)), layer.weights),
        "scales": layer.scales,
        "multiplies_in": layer.multiplies_in,
    }
    return [{"block": block, "role": role, **types, "kernel": layer.name} for block, role in places]
