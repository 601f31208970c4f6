"""What a ViT costs before anything is run: multiply-accumulates, FLOP, parameters and bytes of each block and role.

Every formula counts one image and is multiplied by the batch. Letters: S tokens, D width, H heads, M width of the
MLP, P patch, G patches along an edge. A product of (n, k) with (k, m) is n·k·m multiply-accumulates (MAC) and twice
as many floating-point operations (FLOP). Bytes are those of kernels that fuse nothing: each reads its inputs and
weights once and writes its output once, so they are what fusion can save, and the intensity is a lower bound.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from ..errors import one_of, refuse_unless
from ..places import block_name
from ..records import PRECISIONS, ModelSpec, whole

if TYPE_CHECKING:
    import pandas as pd

#: FLOP per element of what is no product, as XLA counts them; tanh, exp and 1/√x count as one each.
LAYERNORM_FLOPS = 7  # sum; square, sum; subtract the mean; times 1/σ; times scale; plus bias
SOFTMAX_FLOPS = 5  # maximum; subtract it; exp; sum; divide
GELU_FLOPS = 9  # x + 0.044715 x³ is 4; times √(2/π); tanh; plus 1; times ½; times x


class Widths(NamedTuple):
    """Bytes per element of a quantizable layer's weights, of its input, and of everything else."""

    weight: int
    input: int
    rest: int


#: int8 and fp8 with their default scope and rest; int8-dynamic reads floats and quantizes them on the way.
WIDTHS = {
    "fp32": Widths(4, 4, 4),
    "fp16": Widths(2, 2, 2),
    "bf16": Widths(2, 2, 2),
    "fp8": Widths(1, 1, 2),
    "int8": Widths(1, 1, 2),
    "int8-dynamic": Widths(1, 4, 4),
}


@dataclass(frozen=True)
class Part:
    """What one role of one block costs for the whole batch; outside the blocks, ``block`` is the role's name."""

    block: str
    role: str
    macs: int
    flops: int
    parameters: int
    bytes_read: int
    bytes_written: int

    @property
    def intensity(self) -> float:
        """FLOP per byte that is moved: beside a machine's own ratio it tells what bounds the part."""
        return self.flops / (self.bytes_read + self.bytes_written)


@dataclass(frozen=True)
class Cost:
    """The cost of one call of a model with ``batch`` images."""

    spec: ModelSpec
    batch: int
    precision: str
    parts: tuple[Part, ...]

    @cached_property
    def total_macs(self) -> int:
        """Multiply-accumulates of all products, for the whole batch."""
        return sum(part.macs for part in self.parts)

    @cached_property
    def total_flops(self) -> int:
        """Floating-point operations, for the whole batch."""
        return sum(part.flops for part in self.parts)

    @cached_property
    def parameters(self) -> int:
        """Numbers that the model has learnt."""
        return sum(part.parameters for part in self.parts)

    @cached_property
    def total_bytes(self) -> int:
        """Bytes read and written when nothing is fused."""
        return sum(part.bytes_read + part.bytes_written for part in self.parts)

    @property
    def intensity(self) -> float:
        """FLOP per byte of the whole model."""
        return self.total_flops / self.total_bytes

    def frame(self) -> pd.DataFrame:
        """One row per block and role, in the order of computation.

        Columns: ``block``, ``role``, ``macs``, ``flops``, ``parameters``, ``bytes_read``, ``bytes_written``,
        ``intensity`` (FLOP/byte).
        """
        import pandas as pd

        return pd.DataFrame([{**asdict(part), "intensity": part.intensity} for part in self.parts])


def cost(spec: ModelSpec, batch: int = 1, precision: str = "fp32") -> Cost:
    """Count what a model costs.

    Args:
        spec: its shape, from ``model_spec`` or ``load_checkpoint``.
        batch: images per call.
        precision: one of ``records.PRECISIONS``; it decides the bytes. For int8 and fp8 the dense layers of the
            blocks are quantized, and the rest is fp16.

    Raises:
        WorkbenchError: an unknown precision, or a batch below one.
    """
    one_of("precision", precision, PRECISIONS)
    refuse_unless(
        isinstance(spec, ModelSpec),
        "cost counts a model of a known shape",
        why=f"it was given a {type(spec).__name__}",
        remedy="give a ModelSpec, such as model_spec('B/32')",
    )
    images = checked_batch(batch, "count")
    count = _Counter(images, WIDTHS[precision])
    blocks = [part for index in range(spec.depth) for part in _block(count, spec, block_name(index))]
    return Cost(spec, images, precision, (_embedding(count, spec), *blocks, *_head(count, spec)))


def checked_batch(batch, verb: str) -> int:
    """The number of images in a call; ``verb`` says in the error what cannot be done without one."""
    images = whole(batch)
    refuse_unless(
        images is not None and images > 0,
        f"There is no batch to {verb}",
        why=f"it is {batch!r}",
        remedy="give a whole number of images, 1 or more",
    )
    return images


class _Counter(NamedTuple):
    """Multiplies the cost of one image by the batch and elements by bytes."""

    batch: int
    widths: Widths

    def dense(self, block: str, role: str, rows: int, inputs: int, outputs: int) -> Part:
        """``x @ kernel + bias`` on rows·inputs: rows·inputs·outputs MAC and one addition per output."""
        quantized = block != role  # recipes quantize the blocks' layers, not the head
        weight, activation = self.widths[:2] if quantized else (self.widths.rest, self.widths.rest)
        rest, rows = self.widths.rest, self.batch * rows
        macs = rows * inputs * outputs
        return Part(
            block,
            role,
            macs,
            2 * macs + rows * outputs,
            parameters=inputs * outputs + outputs,
            bytes_read=rows * inputs * activation + inputs * outputs * weight + outputs * rest,
            bytes_written=rows * outputs * rest,
        )

    def other(
        self, block: str, role: str, *, flops: int = 0, macs: int = 0, parameters: int = 0, read: int, written: int
    ) -> Part:
        """Anything else; ``read`` and ``written`` are elements of one image, parameters are read once a batch."""
        rest, batch = self.widths.rest, self.batch
        return Part(
            block,
            role,
            batch * macs,
            batch * (2 * macs + flops),
            parameters,
            bytes_read=(batch * read + parameters) * rest,
            bytes_written=batch * written * rest,
        )


def _embedding(count: _Counter, spec: ModelSpec) -> Part:
    """The strided convolution is a dense layer on G² rows of 3P² pixels; S·D position embeddings are added."""
    patches, pixels, numbers = spec.grid**2, 3 * spec.patch**2, spec.tokens * spec.width
    learnt = pixels * spec.width + spec.width + numbers + (spec.width if spec.classifier == "token" else 0)
    return count.other(
        "embedding",
        "embedding",
        macs=patches * pixels * spec.width,
        flops=patches * spec.width + numbers,
        parameters=learnt,
        read=patches * pixels + numbers,
        written=2 * numbers,  # once by the convolution, once with positions
    )


def _block(count: _Counter, spec: ModelSpec, block: str) -> list[Part]:
    """One encoder block: 4·S·D² + 2·S²·D MAC in attention and 2·S·D·M in the MLP.

    Attention's scores q kᵀ and their product with v take S²·h MAC for each of H heads, h = D/H, so the number of
    heads cancels: 2·S²·D for both. LayerNorm has 2D parameters; a residual adds S·D numbers to S·D others.
    """
    tokens, width, mlp = spec.tokens, spec.width, spec.mlp
    numbers, scores, hidden = tokens * width, spec.heads * tokens**2, tokens * mlp

    def norm(role: str) -> Part:
        return count.other(
            block, role, flops=LAYERNORM_FLOPS * numbers, parameters=2 * width, read=numbers, written=numbers
        )

    def residual() -> Part:
        return count.other(block, "residual", flops=2 * numbers, read=4 * numbers, written=2 * numbers)

    return [
        norm("norm1"),
        count.dense(block, "qkv", tokens, width, 3 * width),
        count.other(block, "split", read=4 * numbers, written=4 * numbers),  # q, k, v apart; the heads together
        count.other(  # q kᵀ, the scale, and probabilities times v
            block,
            "scores",
            macs=2 * tokens * numbers,
            flops=scores,
            read=3 * numbers + scores,
            written=scores + numbers,
        ),
        count.other(block, "softmax", flops=SOFTMAX_FLOPS * scores, read=scores, written=scores),
        count.dense(block, "proj", tokens, width, width),
        norm("norm2"),
        count.dense(block, "fc1", tokens, width, mlp),
        count.other(block, "gelu", flops=GELU_FLOPS * hidden, read=hidden, written=hidden),
        count.dense(block, "fc2", tokens, mlp, width),
        residual(),  # both of the block's
    ]


def _head(count: _Counter, spec: ModelSpec) -> list[Part]:
    """The last LayerNorm over all tokens, the pooling of ``gap``, and one or two dense layers on one row."""
    numbers, width = spec.tokens * spec.width, spec.width
    parts = [
        count.other(
            "norm", "norm", flops=LAYERNORM_FLOPS * numbers, parameters=2 * width, read=numbers, written=numbers
        )
    ]
    if spec.classifier == "gap":
        parts.append(count.other("pool", "pool", flops=numbers, read=numbers, written=width))
    if spec.representation is not None:
        parts.append(count.dense("pre_logits", "pre_logits", 1, width, spec.representation))
        width = spec.representation
    return [*parts, count.dense("head", "head", 1, width, spec.classes)]


# ---- what grows with the square of the tokens --------------------------------------------------------------------


class Crossover(NamedTuple):
    """Where one cost overtakes another; ``image_size`` in pixels is not rounded to the patch."""

    tokens: float
    image_size: float


def attention_overtakes_mlp(spec: ModelSpec) -> Crossover:
    """From where on attention takes more MAC than the MLP.

    4·S·D² + 2·S²·D > 2·S·D·M, divided by 2·S·D, is S > M − 2D: with the usual M = 4D, twice the width. Zero where
    the MLP is so narrow that attention leads from the first token.
    """
    return _at(spec, max(0, spec.mlp - 2 * spec.width))


def scores_overtake_mlp(spec: ModelSpec) -> Crossover:
    """From where on the quadratic part alone takes more MAC than the MLP: 2·S²·D > 2·S·D·M is S > M."""
    return _at(spec, spec.mlp)


def _at(spec: ModelSpec, tokens: float) -> Crossover:
    """S = G² + 1 with a class token and the image has G·P pixels along an edge."""
    patches = max(0, tokens - (spec.classifier == "token"))
    return Crossover(tokens, spec.patch * math.sqrt(patches))


def activation_bytes(spec: ModelSpec, batch: int = 1, precision: str = "fp32", *, materialized: bool = True) -> int:
    """The most that activations of one call take at the same time, weights not included, in bytes.

    Beside the residual stream (S·D) a block holds, at its widest, either q, k, v and the context (4·S·D), with
    scores and probabilities (2·H·S²) where these are written to memory, or the MLP's hidden layer before and after
    GELU (2·S·M). A fused attention kernel (Dao et al., 2022, arXiv:2205.14135) keeps the scores on the chip, so
    that its memory grows linearly with the tokens.
    """
    one_of("precision", precision, PRECISIONS)
    numbers = spec.tokens * spec.width
    scores = 2 * spec.heads * spec.tokens**2 if materialized else 0
    widest = max(4 * numbers + scores, 2 * spec.tokens * spec.mlp)
    return checked_batch(batch, "count") * (numbers + widest) * WIDTHS[precision].rest
