"""Where two versions of a ViT differ: their tensors compared at every named output, and the first large error."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import refuse_unless
from ...places import place_of
from ...progress import Progress, silent
from ...records import Graph
from ..quantization.images import check_same_images
from .original import logits_of_file
from .relative_error import RelativeError
from .sides import GraphSide, JaxSide, both_sides, side_of

#: The error jumps at an output that is not finite, or that adds more than each of these three: ``JUMP`` times what
#: a block usually adds, ``SHARE`` of the most that any output adds, and the rounding of float32.
JUMP, SHARE, FLOAT_NOISE = 4.0, 0.5, 1e-5


@dataclass(frozen=True)
class OutputError:
    """How far one tensor of ``a`` is from that of ``b``.

    Attributes:
        output: its name, ``block03/output``.
        error: relative error, ‖a - b‖ / ‖b‖ over all images.
        added: the relative error of the tensor when it is computed from the other side's output before it: what
            this block adds, without the error that reaches it.
        max_abs: the largest absolute difference.
    """

    output: str
    error: float
    added: float
    max_abs: float


@dataclass(frozen=True)
class Difference:
    """Two versions of a model compared at each named output, from the embedding to the logits.

    Attributes:
        rows: one for each output, in the order of computation.
        jump: the first output where the error jumps, see ``JUMP``, or None.
        agreement: the share of images on which both choose the same class, 0...1.
        images: how many images were compared.
    """

    rows: tuple[OutputError, ...]
    jump: str | None
    agreement: float
    images: int

    def frame(self):
        """One row per output, as a pandas DataFrame; ``jumps`` marks the first one that does."""
        import pandas as pd

        return pd.DataFrame([{**vars(row), "jumps": row.output == self.jump} for row in self.rows])

    def __str__(self) -> str:
        last = self.rows[-1]
        where = f"the error jumps at {self.jump}" if self.jump else "no output makes the error jump"
        return (
            f"{last.output}: relative error {last.error:.2g}, same class on {self.agreement:.1%} "
            f"of {self.images} images; {where}"
        )


def diff(a, b, images: np.ndarray, progress: Progress | None = None) -> Difference:
    """Compare two versions of a model at every block's output.

    Args:
        a: a Variant, a Graph, or (spec, params) for the JAX model.
        b: what it is compared with, likewise; one of the two is a variant or a graph. Or the path of the ONNX file
            that the graph ``a`` was imported from, whose names mean nothing: then only the logits are compared.
        images: (N, H, W, 3) float32, normalised.
        progress: see ``progress.Progress``; stage ``compare``, counted in images.

    Returns:
        The errors of ``a`` against ``b``. 16-bit and FP8 variants are emulated, see ``emulation``; Q/DQ pairs run
        as they are written, so the error is that of rounding, not of a CPU's 8-bit kernels.

    Raises:
        WorkbenchError: the images do not fit, the two want different images, or have no named output in common.
    """
    if isinstance(b, Path):
        return _from_file(a, b, images)
    left_side, right_side = side_of(a), side_of(b)
    graph = _checked(left_side, right_side, images)
    theirs = set(right_side.names())
    names = [name for name in left_side.names() if name in theirs]
    refuse_unless(
        len(names) > 1,
        "The two models cannot be compared block by block",
        why=f"they have {'only the logits' if names else 'no named output'} in common",
        remedy="compare versions of one graph, or graphs whose blocks were found by name",
    )
    sums, alone = ({name: RelativeError() for name in names} for _ in range(2))
    one_by_one, same = graph.outputs_alone(names), 0
    for batch, left, right in both_sides(left_side, right_side, names, images, progress or silent):
        others = right if graph is left_side else left
        computed = one_by_one(batch, others)
        for name in names:
            sums[name].add(left[name], right[name], name)
            alone[name].add(computed[name], others[name], name)
        same += int((left[names[-1]].argmax(axis=-1) == right[names[-1]].argmax(axis=-1)).sum())
    rows = tuple(OutputError(name, sums[name].relative, alone[name].relative, sums[name].max_abs) for name in names)
    return Difference(rows, _first_jump(rows), same / len(images), len(images))


def _from_file(graph, path: Path, images: np.ndarray) -> Difference:
    """The logits of a graph against those of the file that it was imported from."""
    refuse_unless(
        isinstance(graph, Graph) and len(images) > 0,
        "Only a graph is compared with a file, on one image or more",
        why=f"given was a {type(graph).__name__} and {len(images)} images",
        remedy="compare a variant with its .graph, and the graph with the file",
    )
    original = logits_of_file(graph, path, images)
    found = side_of(graph).outputs([graph.output_name])(images)[graph.output_name]
    error = RelativeError()
    error.add(found, original, "logits")
    row = OutputError(graph.output_name, error.relative, error.relative, error.max_abs)
    same = float((found.argmax(axis=1) == original.argmax(axis=1)).mean())
    return Difference((row,), _first_jump((row,)), same, len(images))


def _checked(left: GraphSide | JaxSide, right: GraphSide | JaxSide, images: np.ndarray) -> GraphSide:
    """The side whose blocks are computed one by one; refuses two JAX models, and sides that want other images."""
    graphs = [side for side in (left, right) if isinstance(side, GraphSide)]
    refuse_unless(
        bool(graphs),
        "diff cannot compare two JAX models",
        why="it computes the blocks of a graph one by one",
        remedy="export one of them with export_onnx",
    )
    check_same_images("b", graphs[-1].graph.preprocessing, graphs[0].graph.preprocessing)
    refuse_unless(len(images) > 0, "There are no images", why="the array has zero rows", remedy="give one or more")
    return graphs[0]


def _first_jump(rows: tuple[OutputError, ...]) -> str | None:
    blocks = [row.added for row in rows if (place := place_of(row.output)) and place.block]
    usual = statistics.median_low([added for added in blocks if math.isfinite(added)] or [0.0])
    most = max((row.added for row in rows if math.isfinite(row.added)), default=0.0)
    limit = max(JUMP * usual, SHARE * most, FLOAT_NOISE)
    return next((row.output for row in rows if not math.isfinite(row.error) or row.added > limit), None)
