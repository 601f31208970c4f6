"""A file that computes in 16 bits as a float32 model of the same weights, from which a recipe can start."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from ..structure.builder import constant
from ..structure.operators import QUANTIZED
from ..structure.values import HALVES, elements


def widen(model: ir.Model) -> bool:
    """Turn every 16-bit float into float32, in place; casts between the two go. A quantized model stays as it is.

    Returns:
        Whether there was one.
    """
    made = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    halves = [value for value in (*made, *model.graph.initializers.values()) if value.dtype in HALVES]
    if not halves or any(node.op_type in QUANTIZED for node in model.graph):
        return False
    for value in halves:
        if value.const_value is not None:
            wide = constant(model, f"{value.name}/fp32", elements(value).astype(np.float32))
            ir.convenience.replace_all_uses_with(value, wide, replace_graph_outputs=True)
        else:
            value.dtype = ir.DataType.FLOAT
    for node in model.graph:
        if node.op_type == "Cast" and node.attributes["to"].as_int() in HALVES:
            node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT)
    passes.RemoveUnusedNodesPass()(model)
    passes.IdentityEliminationPass()(model)
    return True
