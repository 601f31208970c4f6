"""The JAX model's tensors on the way from images to logits, as NumPy arrays to compare others with."""

from __future__ import annotations

import jax
import numpy as np

from ..records import ModelSpec
from .vit import forward_with_intermediates

_forward_jit = jax.jit(forward_with_intermediates, static_argnums=0)


def intermediates(spec: ModelSpec, params: dict, images: np.ndarray) -> dict[str, np.ndarray]:
    """What ``vit.forward_with_intermediates`` names, and ``logits``, computed in full float32.

    Args:
        spec: the model's shape.
        params: its parameters.
        images: (N, H, W, 3) float32, normalised; all are computed at once.
    """
    with jax.default_matmul_precision("highest"):  # else a GPU multiplies in TF32
        logits, inside = _forward_jit(spec, params, images)
    return {name: np.asarray(value) for name, value in {**inside, "logits": logits}.items()}
