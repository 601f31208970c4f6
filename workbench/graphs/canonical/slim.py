"""onnxslim, over a graph without its weights."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as passes
import onnxslim

from ..structure.shapes import LONGEST_SHAPE


def slim(model: ir.Model) -> ir.Model:
    """Fold shape arithmetic by onnxslim; the weights become inputs for the time being.

    Only shapes and single numbers matter to it; with the weights it would put products and additions together as
    Gemm, leave out biases that happen to be zero, and end at protobuf's 2 GiB.
    """
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    weights = _take_weights(model)
    for node in model.graph:  # a shape of no type cannot be written
        for value in node.outputs:
            value.shape = value.shape if value.dtype is not None else None
    slimmed = ir.from_proto(onnxslim.slim(ir.to_proto(model)))
    for value in list(slimmed.graph.inputs):
        if value.name in weights:
            slimmed.graph.inputs.remove(value)
            value.const_value = weights[value.name]
            slimmed.graph.register_initializer(value)
    return slimmed


def _take_weights(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """Turn the weights of a graph into inputs, in place, and return their tensors by name."""
    weights = {}
    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or not _is_weight(tensor):
            continue
        weights[name] = tensor
        value.shape, value.dtype, value.const_value = ir.Shape(tensor.shape.numpy()), tensor.dtype, None
        del model.graph.initializers[name]
        model.graph.inputs.append(value)
    return weights


def _is_weight(tensor: ir.TensorProtocol) -> bool:
    """Whether a constant is no single number and no shape."""
    return tensor.size > (1 if tensor.dtype.is_floating_point() else LONGEST_SHAPE)
