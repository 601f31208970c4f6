"""The operator table: which ONNX operators multiply, which move numbers, which round, which compute one by one.

Every set of operators that more than one module asks for stands here, and wider sets are made of narrower ones.
"""

from __future__ import annotations

import onnx_ir as ir

# ---- products ----------------------------------------------------------------------------------------------------

#: What exporters write linear layers with.
DENSE_PRODUCTS = ("MatMul", "Gemm")
MATRIX_PRODUCTS = (*DENSE_PRODUCTS, "Einsum")
INTEGER_MATRIX_PRODUCTS = ("MatMulInteger", "QLinearMatMul")
INTEGER_CONVOLUTIONS = ("ConvInteger", "QLinearConv")
CONVOLUTIONS = ("Conv", *INTEGER_CONVOLUTIONS)
#: ONNX's own from opset 23 on; the two others are ONNX Runtime's (domain ``com.microsoft``).
ATTENTION_OPERATORS = ("Attention", "MultiHeadAttention")
#: Operators whose multiply-accumulates are counted.
PRODUCTS = (*MATRIX_PRODUCTS, *INTEGER_MATRIX_PRODUCTS, *CONVOLUTIONS, "Attention")
#: Operators that multiply too, but whose multiply-accumulates are not counted.
UNCOUNTED_PRODUCTS = ("LSTM", "GRU", "RNN", "If", "Loop", "Scan", "ConvTranspose", "DeformConv")
#: Products in floating point that runtimes compute in 8 bits where Q/DQ stands on both inputs.
QUANTIZABLE_PRODUCTS = (*DENSE_PRODUCTS, "Conv")

# ---- rounding ----------------------------------------------------------------------------------------------------

QUANTIZERS = ("QuantizeLinear", "DynamicQuantizeLinear")
#: The domain of TensorRT's own operators, and those that quantize in blocks: their numbers, then their scales.
TENSORRT_DOMAIN = "trt"
BLOCK_QUANTIZERS = ("TRT_FP4DynamicQuantize", "TRT_MXFP8DynamicQuantize")
DEQUANTIZERS = ("DequantizeLinear", "TRT_MXFP8DequantizeLinear")
QDQ = (*QUANTIZERS, *BLOCK_QUANTIZERS, *DEQUANTIZERS)
#: Operators that compute with integers between their inputs and outputs, as runtimes on a CPU do.
INTEGER_OPERATORS = (*INTEGER_MATRIX_PRODUCTS, *INTEGER_CONVOLUTIONS, "DynamicQuantizeLinear")
#: Operators that only a quantized graph has.
QUANTIZED = (*QDQ, *INTEGER_MATRIX_PRODUCTS, *INTEGER_CONVOLUTIONS)

# ---- moves -------------------------------------------------------------------------------------------------------

#: Every number of the output is a number of the first input, unchanged.
MOVES = (
    *("Reshape", "Transpose", "Split", "Squeeze", "Unsqueeze", "Slice", "Gather", "Flatten", "Identity", "Expand"),
)
#: Moves and casts: the operators that may stand between a tensor and its Q/DQ pair.
CARRIERS = (*MOVES, "Cast")
#: Operators that compute nothing: a Q/DQ pair before one has the same effect as a pair behind it.
WITHOUT_ARITHMETIC = (*CARRIERS, "Concat", "Tile", "Pad", "Shape")
#: The same tensor in another type.
COPIES = ("Cast", "Identity", "QuantizeLinear", "DequantizeLinear")

# ---- one by one --------------------------------------------------------------------------------------------------

SCALINGS = ("Mul", "Div")
CURVES = ("Erf", "Tanh", "Sigmoid", "Exp")
#: Operators that compute each number of the output from the numbers at the same position of the inputs.
ELEMENTWISE = (*SCALINGS, *CURVES, "Add", "Sub", "Pow", "Neg", "Sqrt", "Identity")
#: Operators that shapes are computed with, where they work on integers.
SHAPE_ARITHMETIC = (
    *("Shape", "Size", "Constant", "ConstantOfShape", "Cast", "Concat"),
    *(*SCALINGS, "Add", "Sub", "Equal", "Where"),
)

# ---- normalisation -----------------------------------------------------------------------------------------------

#: Operators that normalise by themselves.
NORMALIZATIONS = (
    *("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization"),
    *("GroupNormalization", "InstanceNormalization", "BatchNormalization", "LpNormalization"),
)
#: Operators that add up many numbers.
REDUCTIONS = (
    *("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceProd"),
    *("GlobalAveragePool", "AveragePool", "CumSum"),
)
#: What a normalisation is spelled with, beside its reductions.
NORM_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Reciprocal", "Max", "Clip", "Abs", "Neg", "Cast")

# ---- what a walk passes ------------------------------------------------------------------------------------------

#: Between the products of a block: changes of type, order or size of the numbers.
BETWEEN_PRODUCTS = (*CARRIERS, *QDQ, *SCALINGS, "Where", "Dropout")
#: Between the products of an attention and the addition to the stream: windows that are put together again and
#: rolled back, and the normalisation of a block that normalises last.
BEHIND_ATTENTION = (*BETWEEN_PRODUCTS, *NORMALIZATIONS, "Concat", "Pad")
#: Between the two products of an attention beside the softmax: masks, caps and biases of the scores too.
INSIDE_ATTENTION = (*BETWEEN_PRODUCTS, "Add", "Sub", "Max", "Clip", "Tanh")


def is_standard(node: ir.Node) -> bool:
    """Whether an operator is one of ONNX's own."""
    return node.domain in ("", "ai.onnx")


def name_of(node: ir.Node) -> str:
    """A node's name, or its first output's where it has none."""
    return node.name or node.outputs[0].name or node.op_type


def einsum_terms(node: ir.Node) -> tuple[list[str], str]:
    """The letters of each input of an Einsum, and those of its output: empty where the equation leaves them out."""
    read, _, written = node.attributes["equation"].as_string().replace(" ", "").partition("->")
    return read.split(","), written


def factors(node: ir.Node) -> list[ir.Value]:
    """The tensors that a product multiplies; bias, scales and zero points are left out."""
    if node.op_type == "Einsum":
        found = list(node.inputs)
    elif node.op_type in ("QLinearMatMul", "QLinearConv"):
        found = [node.inputs[0], node.inputs[3]]
    else:
        found = list(node.inputs[:2])
    return [value for value in found if value is not None]
