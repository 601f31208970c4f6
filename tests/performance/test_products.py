"""In which type products multiply, on lists of layers that are written by hand."""

from __future__ import annotations

import pytest

from workbench.backends.tensorrt.layers import Layer
from workbench.performance.products import product_rows

FC1, FC2 = "block01/mlp/fc1", "block01/mlp/fc2"
ATTENTION = ("block00/attention/scores", "block00/attention/softmax", "block00/attention/context")


def gemm(inputs, constants=(), nodes=(FC1,), name="gemm_1"):
    return Layer(name, "gemm", nodes, inputs, ("fp16",), constants)


@pytest.mark.parametrize(
    ("inputs", "constants", "row"),
    [  # what it reads, its weights and scales, and what it multiplies in
        (("fp4", "fp8"), ("fp4", "fp8", "fp32"), ("fp4", "fp4", "fp8", "fp4")),
        (("fp4", "fp8"), ("fp16",), ("fp4", "fp16", None, "fp16")),  # FP4 on one side is expanded
        (("fp16",), ("fp4", "fp8"), ("fp16", "fp4", None, "fp16")),
        (("fp8", "e8m0"), ("fp8", "e8m0"), ("fp8", "fp8", "e8m0", "fp8")),
        (("fp8", "e8m0"), ("fp8", "fp32"), ("fp8", "fp8", None, "fp8")),  # FP8 with one scale per tensor
        (("fp16",), ("fp8", "e8m0"), ("fp16", "fp8", None, "fp16")),
        (("int8",), ("int8", "fp32", "fp32"), ("int8", "int8", None, "int8")),
        (("bf16", "fp32"), ("int4", "bf16"), ("bf16", "int4", None, "bf16")),
        (("fp16", "fp16"), (), ("fp16", None, None, "fp16")),  # two activations
        (("fp16", "fp16"), ("fp32", "fp32"), ("fp16", None, None, "fp16")),  # and two factors
        (("fp32",), ("fp32", "fp32"), ("fp32", "fp32", None, "fp32")),
        ((), (), (None, None, None, None)),  # types that a version hides
    ],
)
def test_a_product_multiplies_in_the_wider_type_of_its_two_sides(inputs, constants, row):
    (found,) = product_rows(gemm(inputs, constants))
    assert (found["reads"], found["weights"], found["scales"], found["multiplies_in"]) == row
    assert (found["block"], found["role"], found["kernel"]) == ("block01", "fc1", "gemm_1")


def test_a_fused_attention_is_one_row_and_what_only_rides_on_a_kernel_none():
    nodes = (*ATTENTION, "block00/attention/proj/quantize")
    whole = Layer("_gemm_mha_v2_0x1", "kgen", nodes, ("fp8",) * 3, ("fp8",))
    (row,) = product_rows(whole)
    assert (row["block"], row["role"], row["multiplies_in"]) == ("block00", "scores", "fp8")
    both = gemm(("fp16",), ("fp16",), nodes=(FC2, "block01/residual2"))
    assert [row["role"] for row in product_rows(both)] == ["fc2"]
    assert product_rows(Layer("__myl_AddMul", "kgen", (FC1,), ("fp16",), ("fp16",))) == []
