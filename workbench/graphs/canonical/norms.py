"""LayerNorm and RMSNorm are recognised by what they compute: any spelling becomes the one operator."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from .. import model_file
from ..structure.builder import Builder, take_place
from ..structure.evaluation import evaluate_all
from ..structure.operators import NORM_ARITHMETIC
from ..structure.values import array, input_of, inputs_of, lengths, number, only_reader, producer_of
from ..structure.walk import above

#: What a norm over the last axis is spelled with.
RESHAPES = ("Reshape", "Unsqueeze", "Expand")
SPELLED_WITH = frozenset(
    (*NORM_ARITHMETIC, *RESHAPES, "ReduceMean", "ReduceSum", "ReduceSumSquare", "Identity")
) - {"Cast"}
#: Rows that a spelling is compared with a norm on: their spread and their offset.
SPREADS, OFFSETS = (1e-3, 0.1, 3.0, 40.0), (0.0, 1.0, -5.0, 20.0)
#: A row whose spread is this small shows epsilon, one of this size hides it.
FAINT, STRONG = 1e-3, 1e6
TOLERANCE = 1e-6
#: The length that stands for an open one.
OPEN = 2
#: The first opset with RMSNormalization.
RMS_OPSET = 23


class Norm(NamedTuple):
    """A norm that was found: γ (x - mean) / sqrt(variance + ε) + β over the last axis; RMSNorm takes no mean off.

    Attributes:
        source: x.
        result: the normalised tensor.
        kind: ``LayerNormalization`` or ``RMSNormalization``.
        gain: γ, (D,) float64.
        shift: β, (D,) float64.
        epsilon: ε.
    """

    source: ir.Value
    result: ir.Value
    kind: str
    gain: np.ndarray
    shift: np.ndarray
    epsilon: float


def canonicalize(model: ir.Model) -> int:
    """Replace every norm over the last axis that is spelled out in small operators.

    Ba et al., 2016 (arXiv:1607.06450); Zhang and Sennrich, 2019 (arXiv:1910.07467), whose operator begins at opset
    23: below, an RMSNorm stays as it is.

    Returns:
        How many were replaced.
    """
    known = ("LayerNormalization", *(["RMSNormalization"] if model_file.opset(model) >= RMS_OPSET else []))
    written = 0
    for root in list(model.graph):  # one after the other: a norm may read another
        norm = _read(root) if _is_root(root) else None
        if norm is not None and norm.kind in known:
            _build(model, norm, f"norm.{written}")
            written += 1
    passes.RemoveUnusedNodesPass()(model)
    return written


def _is_root(node: ir.Node) -> bool:
    """Whether a node takes a root: Sqrt, or a power of a half, positive or negative."""
    power = number(node.inputs[1]) if node.op_type == "Pow" else None
    return node.op_type == "Sqrt" or (power is not None and abs(power) == 0.5)


def _read(root: ir.Node) -> Norm | None:
    """The norm around a root, or None where it computes something else."""
    for source in _sources(root):
        width = lengths(source)[-1:]
        if not width or width[0] is None:
            continue
        result = _result(root, source)
        region = _region(result, source)
        if region is not None and (norm := _fit(source, result, region, width[0])) is not None:
            return norm
    return None


def _sources(root: ir.Node) -> list[ir.Value]:
    """What the statistics under a root may be of, the tensor that most nodes compute from first."""
    candidates: dict[ir.Value, None] = {}
    for node in above([root.outputs[0]], passes=_is_spelling):
        if node.op_type.startswith("Reduce"):
            value = input_of(node, 0)
            square = producer_of(value)
            candidates[value] = None
            if square is not None and square.op_type in ("Mul", "Pow"):
                candidates[input_of(square, 0)] = None
    sized = {value: region for value in candidates if (region := _region(root.outputs[0], value)) is not None}
    return sorted(sized, key=lambda value: -len(sized[value]))


def _region(result: ir.Value, source: ir.Value) -> list[ir.Node] | None:
    """The nodes that compute a result from one tensor and constants, or None where there is more in it."""
    found = above([result], source)
    inside = {value for node in found for value in node.outputs}
    read = {value for node in found for value in inputs_of(node)} - inside - {source}
    return found if found and all(map(_is_spelling, found)) and all(array(v) is not None for v in read) else None


def _is_spelling(node: ir.Node) -> bool:
    return node.op_type in SPELLED_WITH and all(value.dtype != ir.DataType.INT64 for value in node.outputs)


def _result(root: ir.Node, source: ir.Value) -> ir.Value:
    """The last tensor behind a root that is computed from the source alone, channel by channel."""
    inside = {value for node in above([root.outputs[0]], source) for value in node.outputs}
    value = root.outputs[0]
    while (reader := only_reader(value)) is not None and _is_spelling(reader) and not value.is_graph_output():
        computed = [each for each in inputs_of(reader) if array(each) is None and each is not value]
        around = {out for each in computed for node in above([each], source) for out in node.outputs}
        others = inside | around | {source}
        vectors = all(_is_vector(found) for each in inputs_of(reader) if (found := array(each)) is not None)
        reshapes = reader.op_type in RESHAPES and lengths(reader.outputs[0])[-1:] != (1,)
        if reader.op_type.startswith("Reduce") or reshapes or not vectors or not set(computed) <= others:
            break
        if any(_region(each, source) is None for each in computed if each is not source):
            break
        value = reader.outputs[0]
    return value


def _is_vector(constant: np.ndarray) -> bool:
    return constant.size == constant.shape[-1] if constant.ndim else True


# ---- what a region computes --------------------------------------------------------------------------------------


def _fit(source: ir.Value, result: ir.Value, region: list[ir.Node], width: int) -> Norm | None:
    """γ, β and ε of the norm that a region computes, read off its answers to a few rows, or None."""

    shape = [size or OPEN for size in lengths(source)]

    def answers(rows: np.ndarray) -> np.ndarray:
        """Each row's answer: rows fill the tensor in turn, over and over, as often as all have had a place."""
        places = math.prod(shape[:-1])
        order = np.arange(-(-len(rows) // places) * places) % len(rows)
        filled = (rows[part].reshape(shape) for part in order.reshape(-1, places))
        written = [_evaluate(source, result, region, each).reshape(-1, width) for each in filled]
        return np.concatenate(written)[: len(rows)]

    try:
        return _fitted(answers, source, result, width)
    except (ValueError, TypeError, IndexError, RuntimeError):  # the reference cannot compute it, or in other shapes
        return None


def _fitted(answers, source: ir.Value, result: ir.Value, width: int) -> Norm | None:
    rng = np.random.default_rng(0)
    row = np.where(np.arange(width) % 2, -1.0, 1.0) * rng.uniform(0.5, 1.5, width)
    rows = rng.standard_normal((len(SPREADS), width)) * np.array(SPREADS)[:, None]
    rows += np.array(OFFSETS)[:, None]
    (shift,) = answers(np.zeros((1, width)))
    strong, faint = answers(np.stack([STRONG * row, FAINT * row])) - shift
    for kind in ("LayerNormalization", "RMSNormalization"):
        with np.errstate(all="ignore"):
            normal = normalized(row[None], kind, 0.0)[0]
            gain = strong / normal
            share = np.median((faint / (gain * normal))[np.abs(gain) > 0] ** 2)  # variance / (variance + ε)
            variance = np.mean((FAINT * (row - (row.mean() if kind == "LayerNormalization" else 0))) ** 2)
            epsilon = float(f"{max(variance * (1 / share - 1), 0):.6g}")
            wanted = normalized(rows, kind, epsilon) * gain + shift
            if np.abs(answers(rows) - wanted).max() <= TOLERANCE * max(1.0, np.abs(wanted).max()):
                return Norm(source, result, kind, gain, shift, epsilon)
    return None


def normalized(rows: np.ndarray, kind: str, epsilon: float) -> np.ndarray:
    """The formulas of the papers in float64."""
    rows = rows - rows.mean(-1, keepdims=True) if kind == "LayerNormalization" else rows
    return rows / np.sqrt(np.mean(rows**2, -1, keepdims=True) + epsilon)


def _evaluate(source: ir.Value, result: ir.Value, region: list[ir.Node], rows: np.ndarray) -> np.ndarray:
    """The result of a region in float64."""
    wanted = set(region)
    nodes = [node for node in region[0].graph or () if node in wanted]
    constants = {str(v.name): found for node in nodes for v in inputs_of(node) if (found := array(v)) is not None}
    wide = {name: each.astype(np.float64) if each.dtype.kind == "f" else each for name, each in constants.items()}
    return evaluate_all(nodes, {str(source.name): rows, **wide}, str(result.name))


def _build(model: ir.Model, norm: Norm, name: str) -> None:
    """Put one operator in the place of the spelling."""
    last = producer_of(norm.result)
    if last is None:
        raise ValueError(f"{norm.result.name} is computed by no node")
    build = Builder(model, last, name)
    gain = build.constant("scale", norm.gain.astype(build.dtype))
    shift = build.constant("bias", norm.shift.astype(build.dtype))
    if norm.kind == "LayerNormalization":
        built = build.op(norm.kind, "norm", norm.source, gain, shift, axis=-1, epsilon=norm.epsilon)
    else:
        built = build.op(norm.kind, "norm", norm.source, gain, axis=-1, epsilon=norm.epsilon)
        built = build.op("Add", "shift", built, shift) if norm.shift.any() else built
    take_place(built, norm.result)
