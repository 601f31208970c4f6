"""Outlier channels, which make quantization hard, put into a model that computes the same: for lessons and tests.

Large published ViTs have a few LayerNorm channels far larger than the others (FQ-ViT, arXiv:2111.13824, figure 2);
a small model trained for minutes has none. This puts them into any checkpoint without changing what it computes.
Label such a model wherever its numbers are shown.
"""

from __future__ import annotations

import numpy as np
from flax import traverse_util

from ..records import ModelSpec
from .tree import ATTENTION, MLP

#: LayerNorm -> the kernels that read it.
_READERS = {
    "LayerNorm_0": tuple(f"{ATTENTION}/{name}/kernel" for name in ("query", "key", "value")),
    "LayerNorm_1": (f"{MLP}/Dense_0/kernel",),
}


def with_norm_outliers(
    spec: ModelSpec, params: dict, *, factor: float = 50.0, channels: int = 2, seed: int = 0
) -> dict:
    """Make a few channels of each block's LayerNorms larger, and the weights that read them smaller by that factor.

    Where a LayerNorm's output is quantized, INT8 spends its 256 steps on those channels and has few left for the
    others. SmoothQuant reverses it.

    Args:
        spec: the model's shape.
        params: its parameters, vit_jax's tree; left as they are.
        factor: how much larger.
        channels: how many channels of each LayerNorm.
        seed: which channels.
    """
    flat, rng = traverse_util.flatten_dict(params, sep="/"), np.random.default_rng(seed)
    for index in range(spec.depth):
        for norm, readers in _READERS.items():
            scale = np.ones(spec.width, np.float32)
            scale[rng.choice(spec.width, channels, replace=False)] = factor
            block = f"Transformer/encoderblock_{index}"
            for name in (f"{norm}/scale", f"{norm}/bias"):
                flat[f"{block}/{name}"] = np.asarray(flat[f"{block}/{name}"]) * scale
            for name in readers:
                kernel = np.asarray(flat[f"{block}/{name}"])
                flat[f"{block}/{name}"] = kernel / scale.reshape(-1, *[1] * (kernel.ndim - 1))
    return traverse_util.unflatten_dict(flat, sep="/")
