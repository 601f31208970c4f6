"""A Vision Transformer that computes what vit_jax computes (github.com/google-research/vision_transformer).

Pre-norm encoder of Dosovitskiy et al., 2021 (arXiv:2010.11929), in Flax Linen, written with plain products so that
each line becomes one or two ONNX nodes. Shapes in comments: B images, S tokens, D width, H heads, h head size.

The module computes with the tree that ``join_qkv`` makes. Every function of this package takes vit_jax's own tree
(``tree.py``).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from ..backends.base import Tensor, check_feeds
from ..places import OUTPUT
from ..records import ModelSpec
from .sizes import SIZES, TUTORIAL, model_spec
from .tree import ATTENTION, MLP, check_parameters, init, join_qkv, parameter_shapes, split_qkv, tensor_name

__all__ = [
    "SIZES",
    "TUTORIAL",
    "VisionTransformer",
    "check_parameters",
    "forward",
    "forward_with_intermediates",
    "init",
    "input_of",
    "intermediates",
    "join_qkv",
    "logits",
    "model_spec",
    "parameter_shapes",
    "split_qkv",
]

#: LayerNorm's epsilon in vit_jax; torch's default is 1e-5, which is off by 3e-4 in the logits.
EPSILON = 1e-6
#: ``logits`` computes so many images at once that the activations take at most this many bytes.
ACTIVATION_BUDGET = 1 << 30
MOST_IMAGES_AT_ONCE = 32


# ---- the model ---------------------------------------------------------------------------------------------------


class Dense(nn.Module):
    """``x @ kernel + bias``. nn.Dense computes the same, but becomes six ONNX nodes where the batch is symbolic."""

    features: int

    @nn.compact
    def __call__(self, x):
        """(..., inputs) to (..., features)."""
        kernel = self.param("kernel", nn.initializers.xavier_uniform(), (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = x @ kernel + bias
        self.sow("intermediates", OUTPUT, y)
        return y


class Attention(nn.Module):
    """softmax(q kᵀ / √h) v for each head, between two dense layers."""

    heads: int

    @nn.compact
    def __call__(self, x):
        """(B, S, D) to (B, S, D)."""
        length, width = x.shape[1:]
        head_size = width // self.heads
        qkv = Dense(3 * width, name="qkv")(x)
        q, k, v = (part.reshape(-1, length, self.heads, head_size) for part in jnp.split(qkv, 3, axis=-1))
        q, k, v = q.transpose(0, 2, 1, 3), k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3)
        # not q @ k, which drops axes of length 1: a batch of one would be exported as another graph than all others
        scores = jax.lax.batch_matmul(q, k) * (head_size**-0.5)  # (B, H, S, S)
        self.sow("intermediates", "scores", scores)
        probabilities = nn.softmax(scores, axis=-1)
        self.sow("intermediates", "softmax", probabilities)
        context = jax.lax.batch_matmul(probabilities, v).transpose(0, 2, 1, 3).reshape(-1, length, width)
        self.sow("intermediates", "context", context)
        return Dense(width, name="proj")(context)


class Mlp(nn.Module):
    """Two dense layers with the tanh form of GELU between them."""

    features: int

    @nn.compact
    def __call__(self, x):
        """(B, S, D) to (B, S, D)."""
        hidden = nn.gelu(Dense(self.features, name="Dense_0")(x), approximate=True)
        self.sow("intermediates", "gelu", hidden)
        return Dense(x.shape[-1], name="Dense_1")(hidden)


class Block(nn.Module):
    """Attention, then the MLP, each on a normalised copy and added back."""

    heads: int
    mlp: int

    @nn.compact
    def __call__(self, x):
        """(B, S, D) to (B, S, D)."""
        y = nn.LayerNorm(epsilon=EPSILON, name="LayerNorm_0")(x)
        self.sow("intermediates", "norm1", y)
        x = x + Attention(self.heads, name=ATTENTION)(y)
        self.sow("intermediates", "residual1", x)
        y = nn.LayerNorm(epsilon=EPSILON, name="LayerNorm_1")(x)
        self.sow("intermediates", "norm2", y)
        x = x + Mlp(self.mlp, name=MLP)(y)
        self.sow("intermediates", OUTPUT, x)
        return x


class PositionEmbedding(nn.Module):
    """Adds one learnt vector to each token, the class token included."""

    @nn.compact
    def __call__(self, x):
        """(B, S, D) to (B, S, D)."""
        x = x + self.param("pos_embedding", nn.initializers.normal(0.02), (1, *x.shape[1:]))
        self.sow("intermediates", OUTPUT, x)
        return x


class Encoder(nn.Module):
    """Position embedding, the blocks, and a last LayerNorm."""

    spec: ModelSpec

    @nn.compact
    def __call__(self, x):
        """(B, S, D) to (B, S, D)."""
        x = PositionEmbedding(name="posembed_input")(x)
        for index in range(self.spec.depth):
            x = Block(self.spec.heads, self.spec.mlp, name=f"encoderblock_{index}")(x)
        x = nn.LayerNorm(epsilon=EPSILON, name="encoder_norm")(x)
        self.sow("intermediates", "norm", x)
        return x


class VisionTransformer(nn.Module):
    """Images to logits."""

    spec: ModelSpec

    @nn.compact
    def __call__(self, images):
        """(B, image_size, image_size, 3), normalised, to (B, classes)."""
        spec, tile = self.spec, (self.spec.patch, self.spec.patch)
        x = nn.Conv(spec.width, tile, strides=tile, padding="VALID", name="embedding")(images)
        self.sow("intermediates", "patches", x)
        x = x.reshape(-1, spec.grid**2, spec.width)  # rows of the grid first
        if spec.classifier == "token":
            cls = self.param("cls", nn.initializers.zeros, (1, 1, spec.width))
            x = jnp.concatenate([jnp.broadcast_to(cls, (x.shape[0], 1, spec.width)), x], axis=1)
        x = Encoder(spec, name="Transformer")(x)
        x = x[:, 0] if spec.classifier == "token" else x.mean(axis=1)
        if spec.representation is not None:
            x = jnp.tanh(Dense(spec.representation, name="pre_logits")(x))
        return Dense(spec.classes, name="head")(x)


# ---- use ---------------------------------------------------------------------------------------------------------


def forward(spec: ModelSpec, params: dict, images) -> jax.Array:
    """The pure function from normalised NHWC images (B, H, W, 3) to logits (B, classes): trace, jit or export it.

    It computes in the type of ``params`` and ``images``. ``params`` is vit_jax's tree or the one of ``join_qkv``.
    """
    with jax.numpy_rank_promotion("allow"):  # a user's setting must not refuse x + bias
        y, _ = VisionTransformer(spec).apply({"params": join_qkv(params)}, images, mutable=())
    return y


def forward_with_intermediates(spec: ModelSpec, params: dict, images) -> tuple[jax.Array, dict[str, jax.Array]]:
    """``forward``, and the tensors between the layers under the names of ``workbench.places``.

    ``embedding/patches`` (B, grid, grid, D), ``embedding/output`` (B, S, D) with position embeddings added,
    ``norm/output`` (B, S, D), ``head/output`` (B, classes), and in each block ``norm1``, ``attention/qkv``
    (B, S, 3D), ``attention/scores`` and ``attention/softmax`` (B, H, S, S), ``attention/context``,
    ``attention/proj``, ``residual1``, ``norm2``, ``mlp/fc1``, ``mlp/gelu``, ``mlp/fc2`` and ``output``, as in
    ``block03/output``.
    """
    model = VisionTransformer(spec)
    with jax.numpy_rank_promotion("allow"):
        y, state = model.apply({"params": join_qkv(params)}, images, mutable="intermediates")
    flat = traverse_util.flatten_dict(state["intermediates"])
    return y, {tensor_name(path): value[0] for path, value in flat.items()}


_forward_jit = jax.jit(forward, static_argnums=0)
_intermediates_jit = jax.jit(forward_with_intermediates, static_argnums=0)


def logits(spec: ModelSpec, params: dict, images) -> np.ndarray:
    """Compute logits in full float32, in batches that fit in memory.

    Args:
        spec: the model's shape.
        params: its parameters, from ``load_checkpoint`` or ``init``.
        images: (N, image_size, image_size, 3) float32, already normalised.

    Returns:
        (N, classes) float32.

    Raises:
        WorkbenchError: images of another shape or type, none at all, or some that are not finite; parameters
            that are not this model's.
    """
    check_parameters(spec, params)
    images = np.asarray(images)
    check_feeds({"images": images}, input_of(spec))
    size, parts, params = _images_at_once(spec, len(images)), [], jax.device_put(params)
    with jax.default_matmul_precision("highest"):  # else a GPU multiplies in TF32
        for start in range(0, len(images), size):
            part = images[start : start + size]
            padding = [(0, size - len(part)), (0, 0), (0, 0), (0, 0)]
            parts.append(np.asarray(_forward_jit(spec, params, np.pad(part, padding)))[: len(part)])
    return np.concatenate(parts)


def intermediates(spec: ModelSpec, params: dict, images: np.ndarray) -> dict[str, np.ndarray]:
    """The tensors that ``forward_with_intermediates`` names, and ``logits``, computed in full float32.

    Args:
        spec: the model's shape.
        params: its parameters.
        images: (N, H, W, 3) float32, normalised; all are computed at once.
    """
    with jax.default_matmul_precision("highest"):  # else a GPU multiplies in TF32
        y, inside = _intermediates_jit(spec, params, images)
    return {name: np.asarray(value) for name, value in {**inside, "logits": y}.items()}


def input_of(spec: ModelSpec) -> dict[str, Tensor]:
    """What the model takes, by name: ``images``, any number of them."""
    return {"images": Tensor(np.dtype(np.float32), (None, spec.image_size, spec.image_size, 3))}


def _images_at_once(spec: ModelSpec, images: int) -> int:
    """A power of two, so that few shapes are compiled, and small enough for the tensors of one block to fit."""
    scores, hidden, stream = spec.heads * spec.tokens**2, spec.tokens * spec.mlp, spec.tokens * spec.width
    bytes_an_image = 4 * (2 * scores + 2 * hidden + 5 * stream)  # before and after softmax and GELU; x, q, k, v, y
    most = min(MOST_IMAGES_AT_ONCE, max(1, ACTIVATION_BUDGET // bytes_an_image), images)
    return 1 << (most.bit_length() - 1)
