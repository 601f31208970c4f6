"""Whether 8-bit products saturate on this CPU, found by computing one in ONNX Runtime.

Without VNNI, x86 multiplies u8 by s8 with ``pmaddubsw``, which adds two neighbouring products in 16 bits and
saturates: 255 · 127 · 2 is twice what fits. Weights within ±64 cannot overflow: 255 · 64 · 2 = 32,640 ≤ 32,767.
"""

from __future__ import annotations

import functools

import numpy as np

from ...backends.onnxruntime import inference_session

#: The largest magnitude of a weight with and without saturating instructions.
FULL_RANGE, REDUCED_RANGE = 127, 64


@functools.cache
def saturates() -> bool:
    """Whether ONNX Runtime's u8 · s8 product on this machine differs from the exact one."""
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
            "probe",
            [value("a", TensorProto.UINT8, [None, 64]), value("b", TensorProto.INT8, [64, 32])],
            [value("y", TensorProto.INT32, [None, 32])],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    session = inference_session(model.SerializeToString())
    b = np.full((64, 32), FULL_RANGE, np.int8)
    # One row and many take different kernels.
    return any(
        (session.run(None, {"a": np.full((rows, 64), 255, np.uint8), "b": b})[0] != 255 * 127 * 64).any()
        for rows in (1, 8, 64)
    )


def largest_weight() -> int:
    """The largest magnitude of an 8-bit weight that this CPU multiplies exactly."""
    return REDUCED_RANGE if saturates() else FULL_RANGE
