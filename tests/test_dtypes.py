"""The one table of types, held against the libraries that define them."""

import math

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from workbench.dtypes import TYPES, of_onnx, of_tensorrt


@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES)
def test_a_type_has_size_and_range_of_its_numpy_type_and_is_found_by_its_onnx_names(kind):
    dtype = np.dtype(kind.numpy)
    assert dtype.itemsize == math.ceil(kind.bytes)  # NumPy keeps a number of four bits in a byte
    if kind.name != "bool":
        info = (ml_dtypes.finfo if kind.is_float else ml_dtypes.iinfo)(dtype)
        assert (float(info.max), info.bits) == (kind.largest, kind.bits)
    assert ir.DataType[kind.onnx].numpy() == dtype
    assert of_onnx(ir.DataType[kind.onnx]) is of_onnx(f"tensor({kind.onnx.lower()})") is kind


def test_a_type_is_found_by_the_names_that_tensorrt_writes_and_others_are_none():
    written = {"HALF": "fp16", "Half": "fp16", "float": "fp32", "BFloat16": "bf16", "FP8": "fp8", "Bool": "bool"}
    written |= {"FP4E2M1": "fp4", "FP8UE8M0": "e8m0", "Int4": "int4"}
    assert {text: of_tensorrt(text).name for text in written} == written
    assert of_onnx(None) is of_onnx("tensor(string)") is of_onnx(ir.DataType.COMPLEX64) is None
    assert of_tensorrt("e5m2") is None


@pytest.mark.parametrize(("name", "sm"), [("fp16", 70), ("int8", 72), ("bf16", 80), ("fp8", 89), ("fp4", 100)])
def test_tensor_cores_know_a_type_from_its_first_architecture_on(name, sm):
    assert TYPES[name].runs_on(sm)
    assert not TYPES[name].runs_on(sm - 1)
