"""What a graph says of a tensor: its elements where they are constant, its type, its shape."""

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


def array(value: ir.Value | None) -> np.ndarray | None:
    """The elements of an initializer, or None for a tensor that is computed."""
    return None if value is None or value.const_value is None else value.const_value.numpy()


def elements(value: ir.Value | None) -> np.ndarray:
    """The elements of an initializer, where there must be one.

    Raises:
        ValueError: the tensor is computed, or there is none.
    """
    found = array(value)
    if found is None:
        raise ValueError(f"{value and value.name} is not a constant")
    return found


def input_of(node: ir.Node, index: int) -> ir.Value:
    """The input of a node, where there must be one.

    Raises:
        ValueError: the node was given none there.
    """
    value = node.inputs[index]
    if value is None:
        raise ValueError(f"{node.name or node.op_type} has no input {index}")
    return value


def tensor_name(value: ir.Value) -> str:
    """The name of a tensor; in a file every tensor has one."""
    if value.name is None:
        raise ValueError("a tensor has no name")
    return value.name
