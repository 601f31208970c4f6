"""Parameters that training starts from: vit_jax's, or attention that looks like a trained one.

A ViT learns slowly from few images, because its attention has to find out that neighbours matter. *Mimetic*
initialisation (Trockman and Kolter, 2023, arXiv:2305.09828; more than five points on CIFAR-10) begins with what
trained ViTs show: tokens attend to tokens like them, and with sines as position embeddings these are their
neighbours.
"""

from __future__ import annotations

import numpy as np

from ...records import ModelSpec
from .. import vit
from ..tree import ATTENTION

STARTS = ("vit_jax", "mimetic")
#: Shares of noise and of the identity in the products of query and key, and of value and output, as in the paper.
QUERY_KEY, VALUE_OUTPUT = (0.7, 0.7), (0.4, 0.4)
#: Wavelengths of the position embeddings go from 2π to so many times that.
LONGEST = 10_000.0


def starting_parameters(spec: ModelSpec, seed: int, start: str) -> dict:
    """Parameters in vit_jax's tree, float32.

    Args:
        spec: the model's shape.
        seed: of the random numbers.
        start: one of ``STARTS``.
    """
    params = vit.init(spec, seed)
    if start == "mimetic":
        rng = np.random.default_rng([seed, 1])
        encoder = params["Transformer"]
        encoder["posembed_input"]["pos_embedding"] = waves(spec)
        for index in range(spec.depth):
            _fill(encoder[f"encoderblock_{index}"][ATTENTION], spec, rng)
    return params


def waves(spec: ModelSpec) -> np.ndarray:
    """Position embeddings (1, tokens, width): sines and cosines of row and column, as in arXiv:2205.01580.

    The class token has zeros, and so have the last channels of a width that four does not divide.
    """
    count = spec.width // 4
    rates = LONGEST ** -(np.arange(count) / max(1, count - 1))
    rows, columns = np.mgrid[: spec.grid, : spec.grid].reshape(2, -1, 1) * rates
    found = np.zeros((1, spec.tokens, spec.width), np.float32)
    found[0, spec.tokens - spec.grid**2 :, : 4 * count] = np.concatenate(
        [np.sin(columns), np.cos(columns), np.sin(rows), np.cos(rows)], axis=1
    )
    return found


def _fill(attention: dict, spec: ModelSpec, rng: np.random.Generator) -> None:
    """Write the four kernels of an attention, so that their products are near the identity and its negative."""
    width, heads, size = spec.width, spec.heads, spec.head_size
    for head in range(heads):
        left, right = _factors(rng, width, *QUERY_KEY, sign=1)
        attention["query"]["kernel"][:, head] = left[:, :size]
        attention["key"]["kernel"][:, head] = right[:, :size]
    left, right = _factors(rng, width, *VALUE_OUTPUT, sign=-1)
    attention["value"]["kernel"][:] = left.reshape(width, heads, size)
    attention["out"]["kernel"][:] = right.T.reshape(heads, size, width)


def _factors(rng: np.random.Generator, width: int, noise: float, identity: float, sign: int) -> tuple:
    """Two matrices (width, width) with ``left @ right.T`` = noise + sign x identity, the largest factors first.

    The noise has a variance of 1 / width, so that its share is comparable with the identity's.
    """
    product = noise * rng.normal(scale=width**-0.5, size=(width, width)) + sign * identity * np.eye(width)
    left, values, right = np.linalg.svd(product)
    return left * np.sqrt(values), right.T * np.sqrt(values)
