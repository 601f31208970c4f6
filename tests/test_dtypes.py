"""The one table of types, held against the libraries that define them."""

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from workbench.dtypes import FLOATS, HALVES, PRODUCT_TYPES, TYPES, of_onnx, of_tensorrt

EACH = pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES)


@EACH
def test_a_type_has_the_size_and_range_of_its_numpy_type(kind):
    dtype = np.dtype(kind.numpy)
    assert dtype.itemsize == kind.bytes
    if kind.name != "bool":
        assert float((ml_dtypes.finfo if kind.is_float else np.iinfo)(dtype).max) == kind.largest


@EACH
def test_a_type_is_found_by_its_onnx_name(kind):
    assert ir.DataType[kind.onnx].numpy() == np.dtype(kind.numpy)
    assert of_onnx(ir.DataType[kind.onnx]) is kind
    assert of_onnx(f"tensor({kind.onnx.lower()})") is kind


@pytest.mark.parametrize(
    ("written", "name"),
    [("HALF", "fp16"), ("Half", "fp16"), ("float", "fp32"), ("BFloat16", "bf16"), ("FP8", "fp8"), ("Bool", "bool")],
)
def test_a_type_is_found_by_the_names_that_tensorrt_writes(written, name):
    assert of_tensorrt(written) is TYPES[name]


def test_unknown_names_are_no_type():
    assert (
        of_onnx(None) is of_onnx("tensor(string)") is of_onnx(ir.DataType.COMPLEX64) is of_tensorrt("e5m2") is None
    )


def test_products_compute_in_the_types_of_recipes():
    assert PRODUCT_TYPES == ("fp32", "fp16", "bf16", "int8", "fp8")
    assert (FLOATS, HALVES) == (("fp32", "fp16", "bf16"), ("fp16", "bf16"))
    assert TYPES["uint8"].multiplies_in == "int8"


@pytest.mark.parametrize(("name", "sm"), [("fp16", 70), ("int8", 72), ("bf16", 80), ("fp8", 89)])
def test_tensor_cores_know_a_type_from_its_first_architecture_on(name, sm):
    assert TYPES[name].runs_on(sm)
    assert not TYPES[name].runs_on(sm - 1)
