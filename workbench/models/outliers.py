"""Outlier channels, which make quantization hard, put into a model that has none: for lessons and tests.

Large published ViTs have a few channels far larger than the others, at the inputs of LayerNorm (FQ-ViT,
arXiv:2111.13824, figure 2) and behind its scale; a small model trained for minutes has none. ``with_norm_outliers``
puts them behind LayerNorm, where linear layers read them, and ``with_residual_outliers`` into the residual stream,
which LayerNorm and the additions read. Label such a model wherever its numbers are shown.
"""

from __future__ import annotations

import numpy as np
from flax import traverse_util

from ..places import block_name
from ..records import ModelSpec
from .tree import ATTENTION, MLP
from .vit import EPSILON, intermediates

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


def with_residual_outliers(
    spec: ModelSpec, params: dict, images: np.ndarray, *, factor: float = 300.0, seed: int = 0
) -> dict:
    """Give the residual stream two channels that are large at every token, and let each LayerNorm undo them.

    Published models have such channels from an early block on, with nearly the same value everywhere ("massive
    activations", Sun et al., 2024, arXiv:2402.17762). Here the first block's MLP adds them, one positive and one
    negative. They dominate the variance by which each later LayerNorm divides; its scale makes up for what that is
    on the median token, and its bias takes the two constants away. What cannot be undone is that the variance of
    other tokens counts less than before, so the model computes *nearly* the same: compare it in FP32 first.

    Args:
        spec: the model's shape.
        params: its parameters, vit_jax's tree; left as they are.
        images: (N, H, W, 3) float32, normalised, on which the median is taken; 16 are enough.
        factor: how much larger than the typical number of the stream behind the first block.
        seed: which channels.
    """
    flat, rng = traverse_util.flatten_dict(params, sep="/"), np.random.default_rng(seed)
    channels, signs = rng.choice(spec.width, 2, replace=False), np.array([1.0, -1.0], np.float32)
    stream = {name: float(np.median(tokens.std(axis=-1))) for name, tokens in _read_later(spec, params, images)}
    height = factor * next(iter(stream.values()))
    _add(flat, f"Transformer/encoderblock_0/{MLP}/Dense_1/bias", channels, height * signs)
    for name, before in stream.items():
        after = np.sqrt(before**2 + 2 * height**2 / spec.width + EPSILON)
        flat[f"{name}/scale"] = np.asarray(flat[f"{name}/scale"]) * np.float32(after / before)
        shown = np.asarray(flat[f"{name}/scale"])[channels] * height * signs / after
        _add(flat, f"{name}/bias", channels, -shown)
    return traverse_util.unflatten_dict(flat, sep="/")


def _read_later(spec: ModelSpec, params: dict, images: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """What each LayerNorm behind the first block reads, (N, S, D), under the path of its parameters."""
    inside, found = intermediates(spec, params, images), []
    for index in range(spec.depth):
        block, name = f"Transformer/encoderblock_{index}", block_name(index)
        after = f"encoderblock_{index + 1}/LayerNorm_0" if index + 1 < spec.depth else "encoder_norm"
        found += [(f"{block}/LayerNorm_1", inside[f"{name}/residual1"])] if index else []
        found += [(f"Transformer/{after}", inside[f"{name}/output"])]
    return found


def _add(flat: dict, name: str, channels: np.ndarray, values: np.ndarray) -> None:
    changed = np.array(flat[name], np.float32)
    changed[channels] += values.astype(np.float32)
    flat[name] = changed
