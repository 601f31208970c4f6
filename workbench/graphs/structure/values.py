"""One tensor of a graph: its elements where they are constant, its neighbours, its shape and type."""

from __future__ import annotations

import ml_dtypes  # noqa: F401 -- teaches NumPy bfloat16 and float8_e4m3fn
import numpy as np
import onnx_ir as ir

from ... import dtypes


def onnx_type(name: str) -> ir.DataType:
    """ONNX's type of a name in ``dtypes``: FLOAT16 for ``fp16``."""
    return ir.DataType[dtypes.TYPES[name].onnx]


def numpy_type(name: str) -> np.dtype:
    """NumPy's type of a name in ``dtypes``; ml_dtypes provides those that NumPy lacks."""
    return np.dtype(dtypes.TYPES[name].numpy)


FLOATS = tuple(map(onnx_type, dtypes.FLOATS))
HALVES = tuple(map(onnx_type, dtypes.HALVES))

# ---- constants ---------------------------------------------------------------------------------------------------


def array(value: ir.Value | None) -> np.ndarray | None:
    """The elements of an initializer, or None for a tensor that is computed."""
    return None if value is None or value.const_value is None else value.const_value.numpy()


def elements(value: ir.Value | None) -> np.ndarray:
    """The elements of a tensor that is known to be constant.

    Raises:
        ValueError: it is computed.
    """
    found = array(value)
    if found is None:
        raise ValueError(f"{value and value.name} is no constant")
    return found


def number(value: ir.Value | None) -> float | None:
    """A constant of one element as a number, or None for any other tensor."""
    found = array(value)
    return float(found.item()) if found is not None and found.size == 1 else None


def constant_operand(node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """The computed and the constant operand of a node that has one of each, or None."""
    inputs = inputs_of(node)
    constants = [value for value in inputs if array(value) is not None]
    if len(inputs) != 2 or len(constants) != 1:
        return None
    return next(value for value in inputs if value is not constants[0]), constants[0]


def scaling(node: ir.Node) -> tuple[ir.Value, float] | None:
    """The operand and the factor of a node that multiplies with, or divides by, one constant number."""
    pair = constant_operand(node) if node.op_type in ("Mul", "Div") and not is_index(node.outputs[0]) else None
    factor = number(pair[1]) if pair else None
    if pair is None or factor is None or (node.op_type == "Div" and node.inputs[1] is not pair[1]):
        return None
    return pair[0], factor if node.op_type == "Mul" else 1 / factor


def is_dense(node: ir.Node | None) -> bool:
    """Whether a node multiplies an activation with a constant matrix on its right."""
    if node is None or node.op_type != "MatMul":
        return False
    weight = array(node.inputs[1])
    return weight is not None and weight.ndim == 2 and array(node.inputs[0]) is None


# ---- neighbours --------------------------------------------------------------------------------------------------


def input_of(node: ir.Node, index: int) -> ir.Value:
    """A required input of a node.

    Raises:
        ValueError: it is missing, which a checked model rules out.
    """
    value = optional_input(node, index)
    if value is None:
        raise ValueError(f"{node.op_type} {node.name} lacks its input {index}")
    return value


def optional_input(node: ir.Node, index: int) -> ir.Value | None:
    """An input, or None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def inputs_of(node: ir.Node) -> list[ir.Value]:
    """The inputs that are not left out."""
    return [value for value in node.inputs if value is not None]


def producer_of(value: ir.Value | None) -> ir.Node | None:
    """The node that computes a tensor; None for an input of the graph, an initializer and no tensor."""
    return None if value is None else value.producer()


def readers(value: ir.Value) -> list[ir.Node]:
    """The nodes that read a tensor, one for each of their inputs that does."""
    return [use.node for use in value.uses()]


def only_reader(value: ir.Value) -> ir.Node | None:
    """The one node that reads a tensor's numbers, which a Shape does not; None where there are several or none."""
    nodes = [node for node in readers(value) if node.op_type != "Shape"]
    return nodes[0] if len(nodes) == 1 else None


def tensor_name(value: ir.Value) -> str:
    """The name of a tensor, which every tensor of a file has.

    Raises:
        ValueError: it has none.
    """
    if value.name is None:
        raise ValueError("a tensor has no name")
    return value.name


# ---- shapes and types --------------------------------------------------------------------------------------------


def is_index(value: ir.Value) -> bool:
    """Whether a tensor holds shapes, indices or conditions; activations may be integers too, of 8 or 32 bits."""
    return value.dtype in (ir.DataType.INT64, ir.DataType.BOOL)


def rank(value: ir.Value | None) -> int | None:
    """How many dimensions a tensor has, or None where that is unknown."""
    return None if value is None or value.shape is None else len(value.shape)


def lengths(value: ir.Value | None) -> tuple[int | None, ...]:
    """A tensor's shape, None for a symbolic length; empty where the shape is unknown."""
    if value is None or value.shape is None:
        return ()
    return tuple(n if isinstance(n, int) else None for n in value.shape)


def known_lengths(value: ir.Value | None, start: int = 0) -> list[int] | None:
    """A tensor's lengths from an axis on, or None where one of them or the shape is unknown."""
    if value is None or value.shape is None:
        return None
    known = [n for n in value.shape[start:] if isinstance(n, int)]
    return known if len(known) == len(value.shape[start:]) else None


def per_image(value: ir.Value | None) -> tuple[int, ...]:
    """A tensor's shape for a batch of one; an open length that is no known multiple of the batch counts as one."""
    if value is None or value.shape is None:
        return ()
    multiples = (str(n).partition("*batch")[0] for n in value.shape)
    return tuple(int(text) if text.isdigit() else 1 for text in multiples)
