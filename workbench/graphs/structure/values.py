"""What a graph says of a tensor: its elements where they are constant, its type, its shape."""

from __future__ import annotations

import ml_dtypes  # noqa: F401 -- teaches NumPy bfloat16 and float8_e4m3fn
import numpy as np
import onnx_ir as ir

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def array(value: ir.Value | None) -> np.ndarray | None:
    """The elements of an initializer, or None for a tensor that is computed."""
    return None if value is None or value.const_value is None else value.const_value.numpy()
