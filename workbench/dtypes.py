"""The types of numbers, and what each library calls them: the one table.

A new type is one line here. The names of other libraries are text, so that this module
imports none of them. The objects are ``onnx_ir.DataType[each.onnx]``, ``getattr(tensorrt.DataType, each.tensorrt)``
and ``numpy.dtype(each.numpy)``, the last after ``import ml_dtypes`` for the types that NumPy lacks.
"""

from __future__ import annotations

from typing import NamedTuple


class DType(NamedTuple):
    """One type of numbers.

    Attributes:
        name: the workbench's word for it, as recipes have it: ``fp16``.
        bits: width of one number.
        largest: the largest finite magnitude.
        numpy: the name in NumPy or ml_dtypes.
        onnx: the name in ``onnx.TensorProto`` and ``onnx_ir.DataType``.
        tensorrt: the name in ``tensorrt.DataType``, or None where TensorRT lacks it.
        multiplies_in: the type in which a matrix product of such numbers computes; None where no such products are
            counted.
        first_sm: the first compute capability with tensor cores for it, 86 for 8.6; 0 where any GPU will do.
        aliases: further names in TensorRT's logs and inspectors, lower case.
        first_opset: the first ONNX opset in which the operators of a recipe take it; 0 where all do.
    """

    name: str
    bits: int
    largest: float
    numpy: str
    onnx: str
    tensorrt: str | None = None
    multiplies_in: str | None = None
    first_sm: int = 0
    aliases: tuple[str, ...] = ()
    first_opset: int = 0

    @property
    def bytes(self) -> float:
        """Bytes of one number in memory; a fraction for types narrower than a byte."""
        return self.bits // 8 if self.bits % 8 == 0 else self.bits / 8

    @property
    def is_float(self) -> bool:
        """Whether it is a floating-point type."""
        return "float" in self.numpy

    def runs_on(self, sm: int) -> bool:
        """Whether the tensor cores of a compute capability multiply it."""
        return sm >= self.first_sm


#: Largest magnitudes: IEEE 754-2019 (fp64, fp32, fp16), Google's bfloat16 (float32 with 8 bits of significand), OCP
#: 8-bit floating point 1.0, table 1 (fp8, which is E4M3), OCP Microscaling Formats 1.0 (fp4, which is E2M1, and
#: e8m0, the scales of MXFP8). The integers of the table are symmetric: -128 and -8 are not used.
#: First compute capabilities: CUDA C++ Programming Guide, "Compute Capabilities"; of int4, which is a type of
#: weights alone, "TensorRT-RTX Support Matrix".
#: First opsets: QuantizeLinear takes FP8 from 19 on, INT4 from 21 on, FP4 from 23 on, Conv BF16 from 22 on (ONNX,
#: "Operator Changelog"). E8M0 scales are bytes in a file, which every opset has.
_TABLE = (
    DType("fp32", 32, 3.4028234663852886e38, "float32", "FLOAT", "FLOAT", "fp32", aliases=("float32",)),
    DType("fp16", 16, 65504.0, "float16", "FLOAT16", "HALF", "fp16", 70, ("float16",)),
    DType("bf16", 16, 3.3895313892515355e38, "bfloat16", "BFLOAT16", "BF16", "bf16", 80, ("bfloat16",), 22),
    DType("int8", 8, 127.0, "int8", "INT8", "INT8", "int8", 72),
    DType("fp8", 8, 448.0, "float8_e4m3fn", "FLOAT8E4M3FN", "FP8", "fp8", 89, first_opset=19),
    DType("fp4", 4, 6.0, "float4_e2m1fn", "FLOAT4E2M1", "FP4", "fp4", 100, ("fp4e2m1",), 23),
    DType("int4", 4, 7.0, "int4", "INT4", "INT4", first_sm=80, first_opset=21),
    DType("e8m0", 8, 2.0**127, "float8_e8m0fnu", "FLOAT8E8M0", "E8M0", first_sm=100, aliases=("fp8ue8m0",)),
    DType("uint8", 8, 255.0, "uint8", "UINT8", "UINT8", "int8", 72),
    DType("int32", 32, 2147483647.0, "int32", "INT32", "INT32"),
    DType("int64", 64, 9223372036854775807.0, "int64", "INT64", "INT64"),
    DType("fp64", 64, 1.7976931348623157e308, "float64", "DOUBLE"),
    DType("bool", 8, 1.0, "bool", "BOOL", "BOOL"),
)
TYPES = {each.name: each for each in _TABLE}
#: The types that a product can compute in: fp32, fp16, bf16, int8, fp8, fp4.
PRODUCT_TYPES = tuple(each.name for each in _TABLE if each.multiplies_in == each.name)
#: The types that a file only stores weights or scales in.
STORED_TYPES = ("int4", "e8m0")
#: The floating-point types of 16 bits.
HALVES = tuple(name for name in PRODUCT_TYPES if TYPES[name].is_float and TYPES[name].bits == 16)
#: The types that a model can compute in as a whole, with no scales: fp32, fp16, bf16.
FLOATS = ("fp32", *HALVES)

_BY_ONNX = {each.onnx: each for each in _TABLE}
_BY_TENSORRT = {
    name: each
    for each in _TABLE
    if each.tensorrt is not None
    for name in (each.tensorrt.lower(), each.name, *each.aliases)
}
#: Every name of a type in TensorRT's logs and inspectors, lower case, the longest first.
TENSORRT_NAMES = tuple(sorted(_BY_TENSORRT, key=len, reverse=True))


def of_onnx(kind) -> DType | None:
    """The type that ONNX calls so; None for one that is not in the table.

    Args:
        kind: a member of ``onnx_ir.DataType``, or text such as ``tensor(float16)``; None gives None.
    """
    text = kind if isinstance(kind, str) else getattr(kind, "name", "")
    return _BY_ONNX.get(text.removeprefix("tensor(").removesuffix(")").upper())


def of_tensorrt(name: str) -> DType | None:
    """The type of this name in TensorRT's ``DataType``, its logs or inspectors; None for an unknown one."""
    return _BY_TENSORRT.get(name.lower())
