"""A model whose logits are NaN, to see what a service does when an engine computes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

#: The output as it was, before it is multiplied by NaN.
_BEFORE, _FACTOR = "logits_before_nan", "not_a_number"


def with_nan_logits(model: Path) -> bytes:
    """The serialized model with its first output multiplied by NaN, after the last node that was there.

    Args:
        model: an ONNX file; its external weights stay where they are.
    """
    proto = onnx.load(str(model), load_external_data=False)
    graph, output = proto.graph, proto.graph.output[0]
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [_BEFORE if name == output.name else name for name in names]
    type_ = helper.tensor_dtype_to_np_dtype(output.type.tensor_type.elem_type)
    graph.initializer.append(numpy_helper.from_array(np.full((), np.nan, type_), _FACTOR))
    graph.node.append(helper.make_node("Mul", [_BEFORE, _FACTOR], [output.name], name="nan_logits"))
    return proto.SerializeToString()
