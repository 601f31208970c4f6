"""Weights rounded to whole numbers under one scale for the whole tensor: for lessons and tests.

That is the plainest way to four bits. The largest weight of a tensor sets the step of all others, and most weights
are far smaller. No recipe offers it. Four bits work because blocks have a scale each, see
``graphs.quantization.block_scales``.
"""

from __future__ import annotations

import numpy as np
from flax import traverse_util

from ..dtypes import TYPES
from ..records import ModelSpec
from .tree import ATTENTION, MLP

#: The kernels of a block's dense layers.
_KERNELS = (
    *(f"{ATTENTION}/{name}/kernel" for name in ("query", "key", "value", "out")),
    *(f"{MLP}/{name}/kernel" for name in ("Dense_0", "Dense_1")),
)


def with_rounded_weights(spec: ModelSpec, params: dict, *, kind: str = "int4") -> dict:
    """Round the weights of the dense layers of all blocks, each tensor with one scale.

    Args:
        spec: the model's shape.
        params: its parameters, vit_jax's tree; left as they are.
        kind: the integer type of ``dtypes`` that would store them: ``int4`` or ``int8``.
    """
    flat, largest = traverse_util.flatten_dict(params, sep="/"), TYPES[kind].largest
    for index in range(spec.depth):
        for kernel in _KERNELS:
            name = f"Transformer/encoderblock_{index}/{kernel}"
            weights = np.asarray(flat[name], np.float32)
            step = np.float32(np.abs(weights).max() / largest) or np.float32(1)
            flat[name] = np.rint(weights / step) * step
    return traverse_util.unflatten_dict(flat, sep="/")
