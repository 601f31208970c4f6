"""Where two versions of a ViT differ: their tensors compared at every named output, and the first large error."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...errors import WorkbenchError, refuse_unless
from ...places import OUTPUT, Place, block_name, place_of
from ...progress import Progress, silent
from ...records import Graph, ModelSpec, Variant
from .. import model_file
from ..quantization.activations import batches, open_model
from ..quantization.emulation import load_widened
from ..quantization.images import BATCH, check_same_images, graph_input
from ..structure.values import FLOATS, tensor_name

#: The error jumps at an output that is not finite, or that adds more than each of these three: ``JUMP`` times what
#: a block usually adds, ``SHARE`` of the most that any output adds, and the rounding of float32.
JUMP, SHARE, FLOAT_NOISE = 4.0, 0.5, 1e-5
LOGITS = "logits"
#: Nodes that a recipe puts beside the model's own.
ADDED = ("Cast", "QuantizeLinear", "DequantizeLinear")


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
        jump: the first output where the error jumps, see ``JUMP``, or None where it grows evenly.
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
        where = f"the error jumps at {self.jump}" if self.jump else "the error grows evenly"
        return (
            f"{last.output}: relative error {last.error:.2g}, same class on {self.agreement:.1%} "
            f"of {self.images} images; {where}"
        )


def diff(a, b, images: np.ndarray, progress: Progress | None = None) -> Difference:
    """Compare two versions of a model at every block's output.

    Args:
        a: a Variant, a Graph, or (spec, params) for the JAX model.
        b: what it is compared with, likewise; one of the two is a variant or a graph.
        images: (N, H, W, 3) float32, normalised.
        progress: see ``progress.Progress``; stage ``compare``, counted in images.

    Returns:
        The errors of ``a`` against ``b``. 16-bit and FP8 variants are emulated, see ``emulation``; Q/DQ pairs run
        as they are written, so the error is that of rounding, not of a CPU's 8-bit kernels.

    Raises:
        WorkbenchError: the images do not fit, the two want different images, or have no named output in common.
    """
    progress = progress or silent
    _check_sides(a, b, images)
    names = [name for name in _names(a) if name in set(_names(b))]
    refuse_unless(
        len(names) > 1,
        "The two models cannot be compared block by block",
        why=f"they have {'only the logits' if names else 'no named output'} in common",
        remedy="compare versions of one graph, or graphs whose blocks were found by name",
    )
    sums, alone = ({name: _Sums() for name in names} for _ in range(2))
    one_by_one = _outputs_alone(a if isinstance(a, Variant | Graph) else b, names)
    same = done = 0
    for left, right in _both(a, b, names, images, progress):
        rows = len(left[names[-1]])
        others = right if isinstance(a, Variant | Graph) else left
        computed = one_by_one(images[done : done + rows], others)
        for name in names:
            sums[name].add(left[name], right[name], name)
            alone[name].add(computed[name], others[name], name)
        same += int((left[names[-1]].argmax(axis=-1) == right[names[-1]].argmax(axis=-1)).sum())
        done += rows
    rows = tuple(OutputError(name, sums[name].relative, alone[name].relative, sums[name].max_abs) for name in names)
    return Difference(rows, _first_jump(rows), same / done, done)


def role_errors(a: Variant | Graph, b: Variant | Graph, images: np.ndarray, progress: Progress | None = None):
    """The error of each role of each block, measured at the last tensor that it computes.

    It is the error up to that tensor, not what the role alone adds.

    Args:
        a: a variant or graph; 16-bit and 8-bit ones run as in ``diff``.
        b: what it is compared with: another version of the same graph.
        images: (N, H, W, 3) float32, normalised.
        progress: as in ``diff``.

    Returns:
        A pandas DataFrame, a row per block and role in the order of computation: ``block`` (None outside the
        blocks), ``role`` and ``error``, ‖a - b‖ / ‖b‖ over all images.

    Raises:
        WorkbenchError: the images do not fit, or the two have no named place in common.
    """
    import pandas as pd

    theirs = {name for _, name in _placed_tensors(b)}
    tensors = {place: name for place, name in _placed_tensors(a) if name in theirs}
    refuse_unless(
        bool(tensors),
        "The two graphs cannot be compared role by role",
        why="no tensor of a block has the same name in both",
        remedy="compare versions of one graph, whose blocks were found by name",
    )
    sums = {name: _Sums() for name in tensors.values()}
    for left, right in _both(a, b, list(sums), images, progress or silent):
        for name, one in sums.items():
            one.add(left[name], right[name], name)
    rows = [(*place, one.relative) for place, one in zip(tensors, sums.values())]
    return pd.DataFrame(rows, columns=["block", "role", "error"])


def _placed_tensors(side: Variant | Graph) -> Iterator[tuple[Place, str]]:
    """Every floating-point tensor that a node of a known place makes; nodes that a recipe adds are left out."""
    for node in model_file.load(side.path).graph:
        place, made = place_of(node.name or ""), node.outputs[0]
        if place and made.dtype in FLOATS and node.op_type not in ADDED:
            yield place, tensor_name(made)


def _both(a, b, names: list[str], images: np.ndarray, progress: Progress) -> Iterator[tuple[dict, dict]]:
    """The named tensors of both sides, a few images at a time."""
    done = 0
    for left, right in zip(_outputs(a, names, images), _outputs(b, names, images)):
        progress("compare", done, len(images))
        yield left, right
        done += len(left[names[-1]])
    progress("compare", done, len(images))


class _Sums:
    """The squared error and the squared reference of one tensor, over all images."""

    def __init__(self):
        self.error = self.reference = self.max_abs = 0.0

    def add(self, left: np.ndarray, right: np.ndarray, name: str) -> None:
        refuse_unless(
            left.shape == right.shape,
            f"{name} cannot be compared",
            why=f"its shapes are {left.shape} and {right.shape}",
            remedy="compare versions of one model",
        )
        difference = left.astype(np.float64) - right
        self.error += float(np.sum(difference**2))
        self.reference += float(np.sum(right.astype(np.float64) ** 2))
        self.max_abs = max(self.max_abs, float(np.abs(difference).max()))

    @property
    def relative(self) -> float:
        """‖left - right‖ / ‖right‖."""
        if self.reference == 0:
            return math.inf if self.error else 0.0
        return math.sqrt(self.error / self.reference)


def _first_jump(rows: tuple[OutputError, ...]) -> str | None:
    blocks = [row.added for row in rows if (place := place_of(row.output)) and place.block]
    usual = statistics.median_low([added for added in blocks if math.isfinite(added)] or [0.0])
    most = max((row.added for row in rows if math.isfinite(row.added)), default=0.0)
    limit = max(JUMP * usual, SHARE * most, FLOAT_NOISE)
    return next((row.output for row in rows if not math.isfinite(row.error) or row.added > limit), None)


# ---- the two sides -----------------------------------------------------------------------------------------------


def _check_sides(a, b, images) -> None:
    """Refuse what cannot be compared: no graph among them, or two that want different images."""
    graphs = [
        side.graph if isinstance(side, Variant) else side for side in (a, b) if isinstance(side, Variant | Graph)
    ]
    for side in (a, b):
        if not isinstance(side, Variant | Graph):
            _checked_model(side)
    refuse_unless(
        bool(graphs),
        "diff cannot compare two JAX models",
        why="it computes the blocks of a graph one by one",
        remedy="export one of them with export_onnx",
    )
    check_same_images("b", graphs[-1].preprocessing, graphs[0].preprocessing)
    refuse_unless(len(images) > 0, "There are no images", why="the array has zero rows", remedy="give one or more")


def _names(side) -> list[str]:
    """Names of the outputs that a side can show, in the order of computation; the logits come last."""
    if isinstance(side, Variant | Graph):
        graph = side.graph if isinstance(side, Variant) else side
        found = [value.name for node in model_file.load(side.path).graph for value in node.outputs]
        return [n for n in found if n and n.endswith(f"/{OUTPUT}") and n.count("/") == 1] + [graph.output_name]
    spec, _ = _checked_model(side)
    blocks = [block_name(index) for index in range(spec.depth)]
    return [f"{place}/{OUTPUT}" for place in ("embedding", *blocks, "norm")] + [LOGITS]


def _checked_model(side) -> tuple[ModelSpec, dict]:
    if isinstance(side, tuple) and len(side) == 2 and isinstance(side[0], ModelSpec):
        return side
    raise WorkbenchError(
        "diff compares variants, graphs and JAX models",
        why=f"it was given a {type(side).__name__}",
        remedy="give a Variant, a Graph, or the pair (spec, params)",
    )


def _outputs(side, names: list[str], images: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """The named tensors of a few images at a time, in float32."""
    compute = _graph_outputs(side, names) if isinstance(side, Variant | Graph) else _jax_outputs(side)
    for start in range(0, len(images), BATCH):
        yield compute(images[start : start + BATCH])


def _graph_outputs(side: Variant | Graph, names: list[str]):
    graph, model = _opened(side)
    session = open_model(model, names)

    def compute(images: np.ndarray) -> dict[str, np.ndarray]:
        return _joined(batches(graph, session, graph_input(graph, images), silent, ""), names)

    return compute


def _outputs_alone(side: Variant | Graph, names: list[str]):
    """A function that computes each named tensor from given values of the tensors before it, not from its own."""
    graph, model = _opened(side)
    made = {value.name: value for each in model.graph for value in each.outputs}
    for name in names[:-1]:
        given = ir.Value(name=f"{name}/given", shape=made[name].shape, type=ir.TensorType(ir.DataType.FLOAT))
        ir.convenience.replace_all_uses_with(made[name], given)
        model.graph.inputs.append(given)
    session = open_model(model, names)

    def compute(images: np.ndarray, others: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        given = {f"{name}/given": others[name] for name in names[:-1]}
        return _joined(batches(graph, session, graph_input(graph, images), silent, "", given=given), names)

    return compute


def _opened(side: Variant | Graph) -> tuple[Graph, ir.Model]:
    """A side's graph, and its model with 16-bit types emulated."""
    return side.graph if isinstance(side, Variant) else side, load_widened(side.path)


def _joined(parts: Iterable[Mapping[str, np.ndarray]], names: list[str]) -> dict[str, np.ndarray]:
    parts = list(parts)
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _jax_outputs(side):
    from ...models.vit import intermediates

    return functools.partial(intermediates, *side)
