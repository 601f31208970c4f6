"""The work and the tensors of each place of a graph, counted from its nodes and shapes, whatever the model is.

A place, such as ``block03/fc1``, counts as one kernel: it reads what other places wrote, and writes what they read.
A node without a place is a kernel of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import onnx_ir as ir

from ...errors import WorkbenchError
from ...records import Graph
from ..structure.macs import macs
from ..structure.operators import ELEMENTWISE, NORMALIZATIONS, REDUCTIONS, name_of
from ..structure.placement import PlacedModel, read
from ..structure.values import array, inputs_of, is_index, per_image

#: FLOP per number that an operator writes, beside its products; as ``cost`` counts them.
FLOPS = {**dict.fromkeys(ELEMENTWISE, 1), **dict.fromkeys(NORMALIZATIONS, 7), "Softmax": 5, "Gelu": 9, "Relu": 1}


class Counted(NamedTuple):
    """One place of a graph, for one image.

    Attributes:
        block: or the role's name outside the blocks; a node's name where it has no place.
        role: ``other`` for a node without a place.
        macs: multiply-accumulates.
        flops: of everything but products.
        parameters: learnt numbers.
        read: numbers of activations that it reads.
        written: numbers of activations that it writes.
        widest: numbers of the largest tensor that one of its nodes writes.
    """

    block: str
    role: str
    macs: int
    flops: int
    parameters: int
    read: int
    written: int
    widest: int


def count(graph: Graph) -> list[Counted]:
    """Every place of a graph in the order of the file, counted for one image.

    Raises:
        WorkbenchError: the file is no ONNX model, or the multiply-accumulates of a node are not known.
    """
    placed, images = read(graph.path), graph.batch or 1
    groups: dict[tuple[str, str], list[ir.Node]] = {}
    for node in placed.nodes:
        if not is_index(node.outputs[0]):
            groups.setdefault(_key(placed, node), []).append(node)
    seen: set[ir.Value] = set()
    return [_counted(key, nodes, images, seen) for key, nodes in groups.items()]


def _key(placed: PlacedModel, node: ir.Node) -> tuple[str, str]:
    place = placed.places[node]
    return (place.block or place.role, place.role) if place else (name_of(node), "other")


def _counted(key: tuple[str, str], nodes: list[ir.Node], images: int, seen: set[ir.Value]) -> Counted:
    made = {value for node in nodes for value in node.outputs}
    inputs = dict.fromkeys(value for node in nodes for value in inputs_of(node) if not is_index(value))
    weights = [value for value in inputs if array(value) is not None and value not in seen]
    seen.update(weights)
    outside = [value for value in inputs if array(value) is None and value not in made]
    leaving = [value for value in made if value.is_graph_output() or any(u.node not in nodes for u in value.uses())]
    return Counted(
        *key,
        macs=sum(_macs(node) for node in nodes) // images,
        flops=sum(_flops(node) for node in nodes) // images,
        parameters=sum(size for value in weights if (size := math.prod(per_image(value))) > 1),
        read=_numbers(outside) // images,
        written=_numbers(leaving) // images,
        widest=max(map(_size, made)) // images,
    )


def _macs(node: ir.Node) -> int:
    found = macs(node)
    if found is None:
        raise WorkbenchError(
            "The cost of the model cannot be counted",
            why=f"the multiply-accumulates of {name_of(node)}, a {node.op_type}, are not known",
            remedy="export the model with fixed shapes and ONNX's own operators",
        )
    return found


def _flops(node: ir.Node) -> int:
    kind = node.op_type
    numbers = node.inputs[0] if kind in REDUCTIONS else node.outputs[0]
    return (1 if kind in REDUCTIONS else FLOPS.get(kind, 0)) * _size(numbers)


def _numbers(values: Iterable[ir.Value]) -> int:
    return sum(map(_size, values))


def _size(value: ir.Value | None) -> int:
    """Numbers of a tensor: for one image where the batch is open, and for all of them in a file of a static one."""
    return math.prod(per_image(value)) if value is not None and value.shape is not None else 0
