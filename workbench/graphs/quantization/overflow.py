"""The operators whose numbers can leave FP16 in a healthy model: squares, sums, and what norms compute with them.

A stream of 300 is far from FP16's end at 65,504; its square is beyond it. Such operators are found by what they
compute, wherever they stand, so that a norm in small operators is as safe as a LayerNormalization.
"""

from __future__ import annotations

import onnx_ir as ir

from ..canonical.gelu import spelled_out
from ..structure.operators import COPIES, NORM_ARITHMETIC, NORMALIZATIONS, QUANTIZED, REDUCTIONS
from ..structure.values import array, input_of, inputs_of, is_index, lengths, number, producer_of
from .qdq_sites import role_of

#: Normalisations by constants, and means of a few neighbours: their numbers are no larger than what they read.
HARMLESS = ("BatchNormalization", "AveragePool")
STATISTICS = tuple(kind for kind in (*NORMALIZATIONS, *REDUCTIONS) if kind not in HARMLESS)
#: What takes a token out of many; behind a norm it costs less than a cast of all tokens.
TAKES_TOKEN = ("Gather", "Slice", "Squeeze")


def overflowing(model: ir.Model) -> set[ir.Node]:
    """Every square and sum of floats, and the arithmetic that a norm does between and behind them.

    A square inside a GELU is left out: where it overflows, GELU(x) is x or 0, and comes out right.
    """
    gelus = {node for spelling in spelled_out(model) for node in spelling.region}
    found: set[ir.Node] = set()
    made: set[ir.Value] = set()
    for node in model.graph:
        if node in gelus or role_of(node) == "gelu" or node.op_type in QUANTIZED or is_index(node.outputs[0]):
            continue
        if node.op_type in STATISTICS or _is_square(node) or _continues(node, made):
            found.add(node)
            made.update(node.outputs)
    return found


def _is_square(node: ir.Node) -> bool:
    if node.op_type == "Mul":
        return _before_copies(input_of(node, 0)) is _before_copies(input_of(node, 1))
    power = number(node.inputs[1]) if node.op_type == "Pow" else None
    return power is not None and power > 1


def _before_copies(value: ir.Value) -> ir.Value:
    while (node := producer_of(value)) is not None and node.op_type in COPIES:
        value = input_of(node, 0)
    return value


def _continues(node: ir.Node, made: set[ir.Value]) -> bool:
    """Whether a node computes with nothing but statistics and constants, or brings a statistic to its tokens."""
    computed = [value for value in inputs_of(node) if array(value) is None]
    ours = [value for value in computed if value in made]
    if not ours:
        return False
    if node.op_type in TAKES_TOKEN and role_of(node) == "pool":
        return computed[0] in made
    if node.op_type not in NORM_ARITHMETIC or node.op_type == "Cast":
        return False
    return len(ours) == len(computed) or any(_is_statistic(value, node) for value in ours)


def _is_statistic(value: ir.Value, node: ir.Node) -> bool:
    """Whether a tensor holds one number for many of the node's output: (x - mean), x / root."""
    shape, written = lengths(value), lengths(node.outputs[0])
    return bool(shape) and shape != written and 1 in shape[1:]
