"""Two parameter trees with the same numbers: vit_jax's, and the one whose attention is two matrix products.

vit_jax keeps ``query``, ``key`` and ``value`` (D, H, h) and ``out`` (H, h, D) apart. The model computes with
``qkv`` (D, 3D) and ``proj`` (D, D): one product instead of three, and no reshape of a weight in an exported graph.
"""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np

from ..sites import OUTPUT, block_name


def join_qkv(params: dict) -> dict:
    """The tree that the module computes with: ``qkv`` (D, 3D) and ``proj`` (D, D) in each attention.

    Call it outside a traced function whose graph should not join weights. A joined tree is returned as it is.
    """
    return _map_attention(params, _join)


def split_qkv(params: dict, heads: int) -> dict:
    """The inverse of ``join_qkv``."""
    return _map_attention(params, functools.partial(_split, heads=heads))


def _map_attention(params: dict, change) -> dict:
    encoder = {
        name: {**block, "MultiHeadDotProductAttention_0": change(block["MultiHeadDotProductAttention_0"])}
        if name.startswith("encoderblock_")
        else block
        for name, block in params["Transformer"].items()
    }
    return {**params, "Transformer": encoder}


def _join(attention: dict) -> dict:
    if "qkv" in attention:
        return attention
    parts = [attention[name] for name in ("query", "key", "value")]
    xp = np if isinstance(parts[0]["kernel"], np.ndarray) else jnp
    width = parts[0]["kernel"].shape[0]
    return {
        "qkv": {
            "kernel": xp.concatenate([part["kernel"].reshape(width, -1) for part in parts], axis=1),
            "bias": xp.concatenate([part["bias"].reshape(-1) for part in parts]),
        },
        "proj": {"kernel": attention["out"]["kernel"].reshape(-1, width), "bias": attention["out"]["bias"]},
    }


def _split(attention: dict, heads: int) -> dict:
    if "qkv" not in attention:
        return attention
    kernel, bias = attention["qkv"]["kernel"], attention["qkv"]["bias"]
    width = kernel.shape[0]
    parts = {
        name: {
            "kernel": kernel[:, i * width : (i + 1) * width].reshape(width, heads, -1),
            "bias": bias[i * width : (i + 1) * width].reshape(heads, -1),
        }
        for i, name in enumerate(("query", "key", "value"))
    }
    proj = attention["proj"]
    return {**parts, "out": {"kernel": proj["kernel"].reshape(heads, -1, width), "bias": proj["bias"]}}


# ---- names -------------------------------------------------------------------------------------------------------

_OUTSIDE = {
    ("patches",): "embedding/patches",
    ("Transformer", "posembed_input", OUTPUT): f"embedding/{OUTPUT}",
    ("Transformer", "norm"): f"norm/{OUTPUT}",
    ("pre_logits", OUTPUT): f"pre_logits/{OUTPUT}",
    ("head", OUTPUT): f"head/{OUTPUT}",
}
_PARTS = {"MultiHeadDotProductAttention_0": "attention", "MlpBlock_0": "mlp", "Dense_0": "fc1", "Dense_1": "fc2"}


def site_of(path: tuple[str, ...]) -> str:
    """Linen's path of a sown tensor as a name of ``workbench.sites``."""
    if path in _OUTSIDE:
        return _OUTSIDE[path]
    block, inside = block_name(int(path[1].removeprefix("encoderblock_"))), path[2:]
    inside = inside[:-1] if len(inside) > 1 and inside[-1] == OUTPUT else inside  # a dense layer's own output
    return "/".join([block, *(_PARTS.get(part, part) for part in inside)])
