"""``int8-dynamic``: weights in 8 bits; each call finds the ranges of its own activations, so nothing is calibrated.

Each linear layer becomes DynamicQuantizeLinear, MatMulInteger and two multiplications, ONNX operators that ONNX
Runtime fuses with the bias into one DynamicQuantizeMatMul. Its own ``quantize_dynamic`` writes the same, but
renames the nodes, and a node that has lost its block cannot be grouped, excluded or measured.
"""

from __future__ import annotations

import onnx_ir as ir

from ...records import Recipe
from ..structure.builder import constant, node, take_place
from ..structure.operators import name_of
from ..structure.values import elements, numpy_type, onnx_type
from .qdq_sites import excluded, linear_products
from .scales import channel_amax, quantize_weight, symmetric


def quantize_dynamically(model: ir.Model, recipe: Recipe, largest: float) -> tuple[str, ...]:
    """Rewrite the linear layers of a float32 model in place.

    Args:
        model: changed in place.
        recipe: its ``exclude`` names what stays float32.
        largest: the largest magnitude of a weight, see ``saturation``.

    Returns:
        Notes for the variant.
    """
    left: list[str] = []
    for product in linear_products(model):
        if excluded(product, recipe.exclude):
            continue
        if product.op_type != "MatMul":
            left.append(name_of(product))
            continue
        _rewrite(model, product, largest)
    notes = ["each batch sets the range of its own activations, so an image's logits depend on its batch"]
    if recipe.scope != "linear":
        notes.append(f"the scope {recipe.scope} changes nothing here: int8-dynamic quantizes linear layers only")
    return (*notes, *(f"{name} is a Gemm and stays float32" for name in left))


def _rewrite(model: ir.Model, product: ir.Node, largest: float) -> None:
    name = name_of(product)
    activation, weight = product.inputs[0], elements(product.inputs[1])
    scales = symmetric(channel_amax(weight, -1), largest, numpy_type("int8"), numpy_type("fp32"))
    rounded = quantize_weight(weight, weight.ndim - 1, scales, largest)
    integers = constant(model, f"{name}/weight/integers", rounded)
    weight_scales = constant(model, f"{name}/weight/scale", scales.scale)
    quantize = node("DynamicQuantizeLinear", f"{name}/quantize", activation, outputs=3)
    data, scale, zero = quantize.outputs
    multiply = node("MatMulInteger", f"{name}/integers", data, integers, zero)
    to_float = node("Cast", f"{name}/float", multiply.outputs[0], to=onnx_type("fp32"))
    joint = node("Mul", f"{name}/scale", scale, weight_scales)
    rescale = node("Mul", name, to_float.outputs[0], joint.outputs[0])
    model.graph.insert_before(product, (quantize, multiply, to_float, joint, rescale))
    take_place(rescale.outputs[0], product.outputs[0])
    model.graph.remove(product, safe=True)
