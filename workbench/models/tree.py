"""The parameter tree of vit_jax, and the joined tree that the model computes with.

vit_jax has ``query``, ``key`` and ``value`` (D, H, h) and ``out`` (H, h, D) in each attention. The joined tree has
``qkv`` (D, 3D) and ``proj`` (D, D): one product instead of three, and no reshape of a weight in an exported graph.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from ..errors import refuse_unless
from ..places import OUTPUT, block_name
from ..records import ModelSpec

#: What vit_jax calls the two halves of a block.
ATTENTION, MLP = "MultiHeadDotProductAttention_0", "MlpBlock_0"


def parameter_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Path in vit_jax's tree, joined with ``/``, to shape, for every parameter of a model.

    Raises:
        WorkbenchError: the model has tokens that vit_jax knows nothing of.
    """
    refuse_unless(
        spec.extra_tokens == 0,
        f"The JAX model cannot be {spec.name}",
        why=f"it has {spec.extra_tokens} learnt tokens beside the class token, which vit_jax has no parameters for",
        remedy="bring the model in as ONNX, with import_onnx",
    )
    width, heads, head_size = spec.width, spec.heads, spec.head_size
    shapes: dict[str, tuple[int, ...]] = {"cls": (1, 1, width)} if spec.classifier == "token" else {}
    shapes |= _dense("embedding", (spec.patch, spec.patch, 3, width), (width,))
    shapes["Transformer/posembed_input/pos_embedding"] = (1, spec.tokens, width)
    for index in range(spec.depth):
        block = f"Transformer/encoderblock_{index}"
        attention = f"{block}/{ATTENTION}"
        shapes |= _norm(f"{block}/LayerNorm_0", width)
        for name in ("query", "key", "value"):
            shapes |= _dense(f"{attention}/{name}", (width, heads, head_size), (heads, head_size))
        shapes |= _dense(f"{attention}/out", (heads, head_size, width), (width,))
        shapes |= _norm(f"{block}/LayerNorm_1", width)
        shapes |= _dense(f"{block}/{MLP}/Dense_0", (width, spec.mlp), (spec.mlp,))
        shapes |= _dense(f"{block}/{MLP}/Dense_1", (spec.mlp, width), (width,))
    shapes |= _norm("Transformer/encoder_norm", width)
    if spec.representation is not None:
        shapes |= _dense("pre_logits", (width, spec.representation), (spec.representation,))
    return shapes | _dense("head", (spec.representation or width, spec.classes), (spec.classes,))


def _dense(path: str, kernel: tuple[int, ...], bias: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"{path}/kernel": kernel, f"{path}/bias": bias}


def _norm(path: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{path}/scale": (width,), f"{path}/bias": (width,)}


def check_parameters(spec: ModelSpec, params: Mapping, origin: str = "The parameter tree") -> None:
    """Raise a ``WorkbenchError`` that names the first parameter that is missing, unknown or of a wrong shape."""
    refuse_unless(
        isinstance(spec, ModelSpec) and isinstance(params, Mapping),
        "A model is a ModelSpec and a tree of parameters",
        why=f"given were {type(spec).__name__} and {type(params).__name__}",
        remedy="pass what load_checkpoint returns: spec, params = load_checkpoint(path)",
    )
    found = {path: np.shape(leaf) for path, leaf in traverse_util.flatten_dict(params, sep="/").items()}
    expected = parameter_shapes(spec)
    for path in [*expected, *found]:
        refuse_unless(
            found.get(path) == expected.get(path),
            f"{origin} does not hold a {spec.name}: {path}",
            why=f"expected {_shape(expected.get(path))}, found {_shape(found.get(path))}",
            remedy="give parameters and a ModelSpec that belong together, such as load_checkpoint returns",
        )


def _shape(shape) -> str:
    return "nothing of this name" if shape is None else f"shape {shape}"


def init(spec: ModelSpec, seed: int = 0) -> dict:
    """Random parameters in vit_jax's tree, float32: what training starts from.

    Kernels are uniform (Glorot and Bengio, 2010, AISTATS, equation 16) and position embeddings are normal with a
    standard deviation of 0.02, both as in vit_jax. The head is random too, so that an untrained model gives
    different images different logits; vit_jax starts it at zero.
    """
    rng = np.random.default_rng(seed)
    flat = {path: _draw(rng, path, shape) for path, shape in parameter_shapes(spec).items()}
    return traverse_util.unflatten_dict(flat, sep="/")


def _draw(rng: np.random.Generator, path: str, shape: tuple[int, ...]) -> np.ndarray:
    if path.endswith("/scale"):
        return np.ones(shape, np.float32)
    if path.endswith("pos_embedding"):
        return np.float32(0.02) * rng.standard_normal(shape, np.float32)
    if not path.endswith("/kernel"):
        return np.zeros(shape, np.float32)
    inputs = {"embedding": 3, "out": 2}.get(path.split("/")[-2], 1)  # leading axes that are summed over
    limit = math.sqrt(6 / (math.prod(shape[:inputs]) + math.prod(shape[inputs:])))
    return np.float32(limit) * (2 * rng.random(shape, np.float32) - 1)


# ---- one product for q, k and v ----------------------------------------------------------------------------------


def join_qkv(params: dict) -> dict:
    """The joined tree: ``qkv`` (D, 3D) and ``proj`` (D, D) in each attention.

    Call it before a function is traced, or the traced graph joins the weights at every call. A joined tree is
    returned unchanged.
    """
    return _map_attention(params, _join)


def split_qkv(params: dict, heads: int) -> dict:
    """The inverse of ``join_qkv``."""
    return _map_attention(params, functools.partial(_split, heads=heads))


def _map_attention(params: dict, change) -> dict:
    encoder = {
        name: {**block, ATTENTION: change(block[ATTENTION])} if name.startswith("encoderblock_") else block
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
_PARTS = {ATTENTION: "attention", MLP: "mlp", "Dense_0": "fc1", "Dense_1": "fc2"}


def tensor_name(path: tuple[str, ...]) -> str:
    """The name in ``workbench.places`` of a tensor that the module sows under this path."""
    if path in _OUTSIDE:
        return _OUTSIDE[path]
    block, inside = block_name(int(path[1].removeprefix("encoderblock_"))), path[2:]
    inside = inside[:-1] if len(inside) > 1 and inside[-1] == OUTPUT else inside  # a dense layer's own output
    return "/".join([block, *(_PARTS.get(part, part) for part in inside)])
