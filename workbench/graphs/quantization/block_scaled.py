"""NVFP4 and MXFP8: weights and activations in blocks with a scale each, as Blackwell's tensor cores take them.

``wfp4`` has NVFP4's weights alone: they are expanded inside a product that computes in the model's own type.

No operator of ONNX quantizes an activation in blocks as it comes; TensorRT's parser has two of its own, in the
domain ``trt``. Forms that TensorRT for RTX 1.7.1 builds for SM120:

* NVFP4: ``TRT_FP4DynamicQuantize`` gives FP4 numbers and FP8 scales. Two DequantizeLinear follow, of the scales
  and of the numbers, then a cast to the model's type; the weights go through the same. The build log then lists a
  ``gemm`` that reads ``FP4E2M1`` on both sides.
* MXFP8: ``TRT_MXFP8DynamicQuantize`` gives FP8 numbers and E8M0 scales, and ``TRT_MXFP8DequantizeLinear`` takes
  them, with E8M0 as bytes. It writes the model's own type: with float32 and a cast behind it the builder crashes.
  This version then expands both sides and multiplies in that type, as the list of layers shows.

The scale of NVFP4's activation scales is calibrated, so that the largest block seen has FP8's largest scale. Where
the calibration's method is ``dynamic`` it is 1: FP8 itself reaches from blocks of 0.012 to blocks of 2,688. MXFP8
needs none, as powers of two reach far enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from ...records import PRECISIONS, Recipe
from ..structure.builder import constant, node
from ..structure.operators import TENSORRT_DOMAIN, name_of
from ..structure.values import elements, input_of, onnx_type, rank, tensor_name
from .block_scales import mxfp8, nvfp4, tensor_scale_of
from .qdq import output_axis
from .qdq_sites import linear_products
from .ranges import Ranges

FLOAT, FP4, FP8 = onnx_type("fp32"), onnx_type("fp4"), onnx_type("fp8")
#: The first version of the file format that has FP4 (ONNX 1.18, "Release Notes").
FP4_IR_VERSION = 11


class BlockLayer(NamedTuple):
    """A linear layer to quantize, as it is in the float32 model.

    Attributes:
        product: its node.
        weight: float32, (K, N) or (N, K).
        axis: the axis of K in the weight.
        amax: the largest magnitude that calibration saw of its activation; 0 where nothing was calibrated, for a
            scale of 1.
    """

    product: ir.Node
    weight: np.ndarray
    axis: int
    amax: float


def block_layers(
    model: ir.Model, recipe: Recipe, chosen: Callable[[ir.Node], bool], ranges: Ranges | None = None
) -> tuple[list[BlockLayer], tuple[str, ...]]:
    """The linear layers of a float32 model that can be quantized in blocks, and notes on those that cannot.

    Args:
        model: it is not changed.
        recipe: its precision gives the size of a block.
        chosen: which of the linear layers are wanted.
        ranges: of their activations, where the precision is calibrated.
    """
    layers, notes = [], []
    for product in filter(chosen, linear_products(model)):
        if why := why_whole(product, PRECISIONS[recipe.precision].block):
            notes.append(f"{name_of(product)} is left in {recipe.resolved_high_precision}: {why}")
            continue
        weight, tensor = elements(product.inputs[1]), tensor_name(input_of(product, 0))
        amax = ranges.by_tensor[tensor].minmax if ranges else 0.0
        layers.append(BlockLayer(product, weight, summed_axis(product), amax))
    return layers, tuple(notes)


def summed_axis(product: ir.Node) -> int:
    """The axis of a product's matrix of weights along which it sums."""
    return 1 - output_axis(product, 2)


def why_whole(product: ir.Node, size: int) -> str:
    """Why the weights of a product cannot be cut into blocks of this size; empty where they can."""
    weight, read = elements(product.inputs[1]), rank(product.inputs[0])
    if weight.ndim != 2 or read not in (2, 3):
        return f"it multiplies tensors of {read} and {weight.ndim} axes, and blocks need 2 or 3, and 2"
    if product.op_type == "Gemm" and product.attributes.get_int("transA", 0):
        return "it turns its activation, whose blocks would lie along the wrong axis"
    length = weight.shape[summed_axis(product)]
    return f"{length} channels are no multiple of {size}" if length % size else ""


def quantize_blocks(model: ir.Model, layers: Iterable[BlockLayer], precision: str) -> None:
    """Rewrite linear layers in place; the model may compute in any float type by now.

    Args:
        model: changed in place.
        layers: from ``block_layers``.
        precision: ``nvfp4``, ``mxfp8`` or ``wfp4``.
    """
    write_weight, write_activation = {
        "nvfp4": (_fp4_weight, _fp4_activation),
        "mxfp8": (_mx_weight, _mx_activation),
        "wfp4": (_fp4_weight, _as_it_is),
    }[precision]
    for layer in layers:
        activation = input_of(layer.product, 0)
        write = _Writer(model, layer.product, activation.dtype or FLOAT)
        layer.product.replace_input_with(0, write_activation(write, activation, layer.amax))
        layer.product.replace_input_with(1, write_weight(write, layer.weight, layer.axis))
    model.ir_version = max(model.ir_version, FP4_IR_VERSION)


class _Writer:
    """Adds nodes in front of a product whose float type is ``high``."""

    def __init__(self, model: ir.Model, product: ir.Node, high: ir.DataType):
        self.model, self.product, self.high, self.name = model, product, high, name_of(product)

    def constant(self, role: str, values) -> ir.Value:
        return constant(self.model, f"{self.name}/{role}", values)

    def op(self, kind: str, role: str, *inputs: ir.Value, like=None, dtype: ir.DataType, **attributes) -> ir.Value:
        made = node(kind, f"{self.name}/{role}", *inputs, like=like, dtype=dtype, **attributes)
        self.model.graph.insert_before(self.product, made)
        return made.outputs[0]

    def quantize(self, kind: str, *inputs: ir.Value, element: ir.DataType, scale: ir.DataType, **attributes):
        """One of TensorRT's dynamic quantizers: the low numbers, and the scales of their blocks."""
        made = node(kind, f"{self.name}/input0/quantize", *inputs, outputs=2, axis=-1, **attributes)
        self._insert_of_tensorrt(made)
        low, scales = made.outputs
        low.shape, low.dtype, scales.dtype = inputs[0].shape, element, scale
        return low, scales

    def fp4_values(self, role: str, low: ir.Value, scales: ir.Value, tensor_scale: ir.Value, axis: int) -> ir.Value:
        """What FP4 numbers stand for, in the type of the product."""
        steps = self.op("DequantizeLinear", f"{role}/steps", scales, tensor_scale, dtype=FLOAT)
        block = PRECISIONS["nvfp4"].block
        real = self.op(
            "DequantizeLinear", f"{role}/dequantize", low, steps, like=low, dtype=FLOAT, axis=axis, block_size=block
        )
        if self.high == FLOAT:
            return real
        return self.op("Cast", f"{role}/cast", real, like=low, dtype=self.high, to=self.high)

    def mx_values(self, role: str, low: ir.Value, scales: ir.Value, axis: int) -> ir.Value:
        """What MXFP8 numbers stand for, in the type of the product."""
        settings = {"axis": axis, "block_size": PRECISIONS["mxfp8"].block, "output_dtype": self.high}
        made = node(
            "TRT_MXFP8DequantizeLinear",
            f"{self.name}/{role}/dequantize",
            low,
            scales,
            like=low,
            dtype=self.high,
            **settings,
        )
        self._insert_of_tensorrt(made)
        return made.outputs[0]

    def _insert_of_tensorrt(self, made: ir.Node) -> None:
        made.domain = TENSORRT_DOMAIN
        self.model.graph.opset_imports.setdefault(TENSORRT_DOMAIN, 1)
        self.model.graph.insert_before(self.product, made)


def _fp4_weight(write: _Writer, weight: np.ndarray, axis: int) -> ir.Value:
    blocks = nvfp4(weight, axis)
    low = write.constant("weight/quantized", blocks.elements)
    scales = write.constant("weight/scales", blocks.scales)
    return write.fp4_values("weight", low, scales, write.constant("weight/scale", blocks.tensor_scale), axis)


def _fp4_activation(write: _Writer, activation: ir.Value, amax: float) -> ir.Value:
    tensor_scale = write.constant("input0/scale", tensor_scale_of(amax))
    settings = {"block_size": PRECISIONS["nvfp4"].block, "scale_type": FP8}
    low, scales = write.quantize(
        "TRT_FP4DynamicQuantize", activation, tensor_scale, element=FP4, scale=FP8, **settings
    )
    return write.fp4_values("input0", low, scales, tensor_scale, -1)


def _as_it_is(write: _Writer, activation: ir.Value, amax: float) -> ir.Value:
    """The activation of a product whose weights alone are rounded."""
    return activation


def _mx_weight(write: _Writer, weight: np.ndarray, axis: int) -> ir.Value:
    elements, scales = mxfp8(weight, axis)
    low, powers = write.constant("weight/quantized", elements), write.constant("weight/scales", scales)
    return write.mx_values("weight", low, powers, axis)


def _mx_activation(write: _Writer, activation: ir.Value, amax: float) -> ir.Value:
    settings = {"block_size": PRECISIONS["mxfp8"].block, "output_dtype": FP8}
    low, scales = write.quantize(
        "TRT_MXFP8DynamicQuantize", activation, element=FP8, scale=ir.DataType.UINT8, **settings
    )
    return write.mx_values("input0", low, scales, -1)
