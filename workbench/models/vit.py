"""A Vision Transformer that computes what vit_jax computes (github.com/google-research/vision_transformer).

Pre-norm encoder of Dosovitskiy et al., 2021 (arXiv:2010.11929), in Flax Linen, written with plain products so that
each line becomes one or two ONNX nodes. Shapes in comments: B images, S tokens, D width, H heads, h head size.

The module computes with the tree that ``join_qkv`` makes; every function outside takes vit_jax's own (``tree.py``).
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from ..backends.base import Tensor, check_feeds
from ..errors import one_of
from ..performance.cost import activation_bytes
from ..places import OUTPUT
from ..records import ModelSpec
from .tree import check_parameters, init, join_qkv, parameter_shapes, site_of, split_qkv

__all__ = [
    "SIZES",
    "TUTORIAL",
    "VisionTransformer",
    "check_parameters",
    "forward",
    "forward_with_intermediates",
    "init",
    "input_of",
    "join_qkv",
    "logits",
    "model_spec",
    "parameter_shapes",
    "split_qkv",
]

#: Letter -> width, mlp, heads, depth: table 1 of arXiv:2010.11929, and of DeiT, arXiv:2012.12877, for Ti and S.
LETTERS = {
    "Ti": (192, 768, 3, 12),
    "S": (384, 1536, 6, 12),
    "B": (768, 3072, 12, 12),
    "L": (1024, 4096, 16, 24),
    "H": (1280, 5120, 16, 32),
}
PUBLISHED = ("Ti/16", "S/16", "S/32", "B/32", "B/16", "B/8", "L/32", "L/16", "H/14")
#: The model that is shipped with the workbench: small, but with the head size of its published relatives.
TUTORIAL = ModelSpec("tutorial", image_size=96, patch=8, width=192, depth=6, heads=3, mlp=768, classes=16)
SIZES = (*PUBLISHED, "tutorial")

#: LayerNorm's epsilon in vit_jax; torch's default is 1e-5, which is off by 3e-4 in the logits.
EPSILON = 1e-6
#: ``logits`` computes as many images at once as keep the activations under this many bytes.
ACTIVATION_BUDGET = 1 << 30
MOST_IMAGES_AT_ONCE = 32


def model_spec(
    name: str,
    image_size: int | None = None,
    classes: int | None = None,
    *,
    classifier: str = "token",
    representation: int | None = None,
) -> ModelSpec:
    """The shape of a model in the size table.

    Args:
        name: ``B/32``, ``ViT-B/32`` or any other name in ``SIZES``.
        image_size: pixels along an edge; 224 when left out, 96 for ``tutorial``.
        classes: number of logits; 1000 when left out, 16 for ``tutorial``.
        classifier: ``token`` or ``gap``.
        representation: width of the tanh layer before the head, or None.

    Raises:
        WorkbenchError: the table has no such name, or the patch does not divide the image.
    """
    short = str(name).removeprefix("ViT-").replace("_", "/")
    one_of("model size", short, SIZES)
    if short == "tutorial":
        base = TUTORIAL
    else:
        letter, patch = short.split("/")
        width, mlp, heads, depth = LETTERS[letter]
        base = ModelSpec(f"ViT-{short}", 224, int(patch), width, depth, heads, mlp, 1000)
    return dataclasses.replace(
        base,
        image_size=base.image_size if image_size is None else image_size,
        classes=base.classes if classes is None else classes,
        classifier=classifier,
        representation=representation,
    )


# ---- the model ---------------------------------------------------------------------------------------------------


class Dense(nn.Module):
    """``x @ kernel + bias``; nn.Dense computes the same, but becomes six ONNX nodes under a symbolic batch."""

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
        # not q @ k, which drops axes of length 1: a batch of one would be drawn in another way than all others
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
        x = x + Attention(self.heads, name="MultiHeadDotProductAttention_0")(y)
        self.sow("intermediates", "residual1", x)
        y = nn.LayerNorm(epsilon=EPSILON, name="LayerNorm_1")(x)
        self.sow("intermediates", "norm2", y)
        x = x + Mlp(self.mlp, name="MlpBlock_0")(y)
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

    It computes in the type of params and images; params may be vit_jax's tree or ``join_qkv``'s.
    """
    return VisionTransformer(spec).apply({"params": join_qkv(params)}, images)


def forward_with_intermediates(spec: ModelSpec, params: dict, images) -> tuple[jax.Array, dict[str, jax.Array]]:
    """``forward``, and the tensors on the way under the names of ``workbench.places``.

    ``embedding/patches`` (B, grid, grid, D), ``embedding/output`` (B, S, D) with position embeddings added,
    ``norm/output`` (B, S, D), ``head/output`` (B, classes), and in each block ``norm1``, ``attention/qkv``
    (B, S, 3D), ``attention/scores`` and ``attention/softmax`` (B, H, S, S), ``attention/context``,
    ``attention/proj``, ``residual1``, ``norm2``, ``mlp/fc1``, ``mlp/gelu``, ``mlp/fc2`` and ``output``, as in
    ``block03/output``.
    """
    model = VisionTransformer(spec)
    y, state = model.apply({"params": join_qkv(params)}, images, mutable="intermediates")
    flat = traverse_util.flatten_dict(state["intermediates"])
    return y, {site_of(path): value[0] for path, value in flat.items()}


_forward_jit = jax.jit(forward, static_argnums=0)


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


def input_of(spec: ModelSpec) -> dict[str, Tensor]:
    """What the model takes, by name: ``images``, any number of them."""
    return {"images": Tensor(np.dtype(np.float32), (None, spec.image_size, spec.image_size, 3))}


def _images_at_once(spec: ModelSpec, images: int) -> int:
    """A power of two, so that few shapes are ever compiled."""
    fit = max(1, ACTIVATION_BUDGET // activation_bytes(spec))
    most = min(MOST_IMAGES_AT_ONCE, fit, images)
    return 1 << (most.bit_length() - 1)
