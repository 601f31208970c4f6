"""The cost of a ViT, counted before anything runs: MAC, FLOP, parameters and bytes of each block and role.

Every formula counts one image and is multiplied by the batch. Letters: S tokens, D width, H heads, M width of the
MLP, P patch, G patches along an edge. A product of (n, k) with (k, m) is n·k·m multiply-accumulates (MAC) and twice
as many floating-point operations (FLOP). Bytes are those of kernels without fusion: each reads its inputs and its
weights once and writes its output once. Fusion saves a part of them, so the intensity is a lower bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from ..dtypes import TYPES
from ..errors import WorkbenchError, one_of, refuse_unless
from ..places import block_name
from ..records import PRECISIONS, Graph, ModelSpec, whole
from ..records.recipes import Precision

if TYPE_CHECKING:
    import pandas as pd

#: FLOP per element of operators that are no products, as XLA counts them; tanh, exp and 1/√x count as one each.
LAYERNORM_FLOPS = 7  # sum; square, sum; subtract the mean; times 1/σ; times scale; plus bias
SOFTMAX_FLOPS = 5  # maximum; subtract it; exp; sum; divide
GELU_FLOPS = 9  # x + 0.044715 x³ is 4; times √(2/π); tanh; plus 1; times ½; times x
#: The dense layers of a block. A recipe with its default scope computes their products in its precision.
LINEAR_ROLES = ("qkv", "proj", "fc1", "fc2")


@dataclass(frozen=True)
class Part:
    """The cost of one role in one block for the whole batch; outside the blocks, ``block`` is the role's name."""

    block: str
    role: str
    macs: int
    flops: int
    parameters: int
    bytes_read: int
    bytes_written: int

    @property
    def intensity(self) -> float:
        """FLOP per byte that is moved: below a machine's own ratio memory limits the part, above it arithmetic."""
        return self.flops / (self.bytes_read + self.bytes_written)


@dataclass(frozen=True)
class Cost:
    """The cost of one call of a model with ``batch`` images.

    ``spec`` is the shape that was counted, or the graph where no ModelSpec describes it.
    """

    spec: ModelSpec | Graph
    batch: int
    precision: str
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """The model's."""
        return self.spec.name if isinstance(self.spec, ModelSpec) else self.spec.path.stem

    @property
    def image_size(self) -> int:
        """Pixels along an edge of an image."""
        return self.spec.image_size if isinstance(self.spec, ModelSpec) else self.spec.preprocessing.size

    @property
    def classes(self) -> int:
        """Logits of an image."""
        return self.spec.classes or 0

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
        """Learnt numbers of the model."""
        return sum(part.parameters for part in self.parts)

    @cached_property
    def total_bytes(self) -> int:
        """Bytes read and written where nothing is fused."""
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


def cost(spec: ModelSpec | Graph, batch: int = 1, precision: str = "fp32") -> Cost:
    """Count the cost of a model before it runs.

    Args:
        spec: its shape, from ``model_spec`` or ``load_checkpoint``; or a graph, which is counted by its own shape,
            or, where no ModelSpec describes it, from the nodes of its file.
        batch: images per call.
        precision: one of ``records.PRECISIONS``; it decides the bytes. Below 16 bits the dense layers of the
            blocks are quantized, and everything else is fp16.

    Raises:
        WorkbenchError: an unknown precision, or a batch below one.
    """
    one_of("precision", precision, PRECISIONS)
    refuse_unless(
        isinstance(spec, ModelSpec | Graph),
        "cost counts a model of a known shape",
        why=f"it was given a {type(spec).__name__}",
        remedy="give a ModelSpec, such as model_spec('B/32'), or what export_onnx or import_onnx returned",
    )
    images = checked_batch(batch, "count")
    count = _Counter(images, PRECISIONS[precision])
    if isinstance(spec, Graph):
        if spec.spec is None:
            return Cost(spec, images, precision, tuple(_counted_parts(count, spec)))
        spec = spec.spec
    blocks = [part for index in range(spec.depth) for part in _block(count, spec, block_name(index))]
    return Cost(spec, images, precision, (_embedding(count, spec), *blocks, *_head(count, spec)))


def _counted_parts(count: _Counter, graph: Graph) -> Iterator[Part]:
    """The places of a graph's file as parts."""
    from ..graphs.analysis.place_sizes import count as count_places  # reads ONNX, which a ModelSpec does not need

    for place in count_places(graph):
        quantized = place.role in LINEAR_ROLES and place.macs > 0
        types, elsewhere = count.types, count.types.elsewhere
        read, weights = (types.inputs, types.weights) if quantized else (elsewhere, elsewhere)
        yield Part(
            place.block,
            place.role,
            macs=count.batch * place.macs,
            flops=count.batch * (2 * place.macs + place.flops),
            parameters=place.parameters,
            bytes_read=memory_bytes(count.batch * place.read, read) + memory_bytes(place.parameters, weights),
            bytes_written=memory_bytes(count.batch * place.written, elsewhere),
        )


def checked_batch(batch, verb: str) -> int:
    """A number of images, checked; the error says that there is no batch to ``verb``."""
    images = whole(batch)
    if images is None or images < 1:
        raise WorkbenchError(
            f"There is no batch to {verb}",
            why=f"it is {batch!r}",
            remedy="give a whole number of images, 1 or more",
        )
    return images


def memory_bytes(elements: int, kind: str) -> int:
    """Bytes of so many numbers of a type of ``dtypes``."""
    return elements * TYPES[kind].bits // 8


def low_bytes(elements: int, kind: str, types: Precision) -> int:
    """Bytes of so many numbers in front of a product of a precision, the scales of their blocks included.

    Scales of whole channels and tensors are too few to count.
    """
    blocks = elements // types.block if types.block and kind == types.weights else 0
    return memory_bytes(elements, kind) + memory_bytes(blocks, types.scales or types.elsewhere)


class _Counter(NamedTuple):
    """Multiplies the cost of one image by the batch, and elements by their bytes."""

    batch: int
    types: Precision

    def dense(self, block: str, role: str, rows: int, inputs: int, outputs: int) -> Part:
        """``x @ kernel + bias`` on rows·inputs: rows·inputs·outputs MAC and one addition per output."""
        elsewhere, rows = self.types.elsewhere, self.batch * rows
        quantized = role in LINEAR_ROLES
        weights, read = (self.types.weights, self.types.inputs) if quantized else (elsewhere, elsewhere)
        macs = rows * inputs * outputs
        return Part(
            block,
            role,
            macs,
            2 * macs + rows * outputs,
            parameters=inputs * outputs + outputs,
            bytes_read=low_bytes(rows * inputs, read, self.types)
            + low_bytes(inputs * outputs, weights, self.types)
            + memory_bytes(outputs, elsewhere),
            bytes_written=memory_bytes(rows * outputs, elsewhere),
        )

    def other(
        self, block: str, role: str, *, flops: int = 0, macs: int = 0, parameters: int = 0, read: int, written: int
    ) -> Part:
        """Any other part; ``read`` and ``written`` are elements of one image, parameters are read once a batch."""
        batch, elsewhere = self.batch, self.types.elsewhere
        return Part(
            block,
            role,
            batch * macs,
            batch * (2 * macs + flops),
            parameters,
            bytes_read=memory_bytes(batch * read + parameters, elsewhere),
            bytes_written=memory_bytes(batch * written, elsewhere),
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


def activation_bytes(spec: ModelSpec, batch: int = 1, precision: str = "fp32", *, materialized: bool = True) -> int:
    """Bytes of activations that one call holds at the same time, at most; weights are not included.

    Beside the residual stream (S·D) a block holds one of two sets of tensors. In attention these are q, k, v and
    the context (4·S·D), with scores and probabilities (2·H·S²) where these are written to memory. In the MLP it is
    the hidden layer before and after GELU (2·S·M). A fused attention kernel (Dao et al., 2022, arXiv:2205.14135)
    keeps the scores on the chip: its memory grows linearly with the tokens.

    Args:
        spec: the model's shape.
        batch: images per call.
        precision: one of ``records.PRECISIONS``.
        materialized: whether scores and probabilities are written to memory, as kernels without fusion do.

    Raises:
        WorkbenchError: an unknown precision, or a batch below one.
    """
    one_of("precision", precision, PRECISIONS)
    numbers = spec.tokens * spec.width
    scores = 2 * spec.heads * spec.tokens**2 if materialized else 0
    widest = max(4 * numbers + scores, 2 * spec.tokens * spec.mlp)
    elements = checked_batch(batch, "count") * (numbers + widest)
    return memory_bytes(elements, PRECISIONS[precision].elsewhere)
