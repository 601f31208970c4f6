"""Weights in blocks: counted by hand, and held against what ONNX's own DequantizeLinear makes of them."""

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from workbench.graphs.quantization.block_scales import dequantized, int4, mxfp8, nvfp4

#: Every positive FP4 number.
FP4 = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def test_a_block_of_fp4_numbers_is_kept_as_it_is():
    """The largest block has the scale 448; a block six 448ths as large has the scale 6."""
    first = np.array([*FP4, *(-n for n in FP4), 0.0, 0.0], np.float32) * 448
    second = np.array([*FP4, *(-n for n in FP4), 0.0, 0.0], np.float32) * 6
    low, scales, tensor_scale = nvfp4(np.concatenate([first, second])[:, None], axis=0)
    assert tensor_scale == 1
    assert scales.astype(float).tolist() == [[448.0], [6.0]]
    np.testing.assert_array_equal(low[:16, 0].astype(np.float32) * 448, first)
    np.testing.assert_array_equal(low[16:, 0].astype(np.float32) * 6, second)


def test_fp4_rounds_to_the_nearest_number_and_ties_to_the_even_one():
    block = np.array([6, 5, 5.1, 3.5, 2.5, 1.75, 1.25, 0.75, 0.25, 0.26, -5, -0.75, 0, 0, 0, 0], np.float32)
    low = nvfp4(block[:, None] * 448, axis=0).elements[:, 0].astype(float)
    assert low.tolist() == [6, 4, 6, 4, 2, 2, 1, 1, 0, 0.5, -4, -1, 0, 0, 0, 0]


def test_an_outlier_spoils_its_own_block_only():
    weight = np.full((32, 1), 0.01, np.float32)
    weight[3] = 50.0
    low, scales, tensor_scale = nvfp4(weight, axis=0)
    real = dequantized(low, scales.astype(np.float32) * tensor_scale, axis=0)[:, 0]
    assert real[0] == 0
    np.testing.assert_allclose(real[16:], 0.01, rtol=2**-3)  # three bits of mantissa in the scale
    assert int4(np.tile(weight, (2, 1)), 0, np.dtype(np.float32)).elements[32 + 16].item() == 0


@pytest.mark.parametrize(
    ("largest", "power"), [(448.0, 0), (448.1, 1), (447.0, 0), (224.0, -1), (1.0, -8), (1.75, -8), (1.76, -7)]
)
def test_mxfp8_takes_the_smallest_power_of_two_with_which_the_largest_number_fits(largest, power):
    weight = np.full((32, 1), largest, np.float32)
    low, scales = mxfp8(weight, axis=0)
    assert scales.tolist() == [[power + 127]]
    assert np.abs(low.astype(float)).max() <= 448
    np.testing.assert_allclose(low.astype(float) * 2.0**power, weight, rtol=2**-4)


def test_int4_has_seven_steps_on_each_side():
    weight = np.zeros((64, 1), np.float32)
    weight[:15, 0] = np.arange(-7, 8)
    weight[32:47, 0] = np.arange(-7, 8) * 0.5
    low, scales = int4(weight, 0, np.dtype(np.float32))
    assert scales.tolist() == [[1.0], [0.5]]
    assert low[:15, 0].astype(int).tolist() == low[32:47, 0].astype(int).tolist() == list(range(-7, 8))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("quantize", [nvfp4, mxfp8, lambda w, axis: int4(w, axis, np.dtype(np.float32))])
def test_a_weight_of_zeros_stays_zero_with_scales_above_zero(quantize, axis):
    blocks = quantize(np.zeros((32, 64), np.float32), axis)
    assert not blocks.elements.astype(float).any()
    assert (blocks.scales.astype(float) > 0).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_onnx_dequantizes_nvfp4_to_the_same_numbers(axis):
    weight = np.random.default_rng(0).normal(size=(48, 32)).astype(np.float32)
    low, scales, tensor_scale = nvfp4(weight, axis)
    found = reference(
        [("steps", "scales", "tensor_scale", {}), ("real", "low", "steps", {"axis": axis, "block_size": 16})]
    )(low=low, scales=scales, tensor_scale=tensor_scale)
    ours = dequantized(low, scales.astype(np.float32) * tensor_scale, axis)
    np.testing.assert_array_equal(found, ours)
    assert np.linalg.norm(ours - weight) < 0.12 * np.linalg.norm(weight)


@pytest.mark.parametrize("axis", [0, 1])
def test_onnx_dequantizes_int4_to_the_same_numbers(axis):
    weight = np.random.default_rng(0).normal(size=(64, 96)).astype(np.float32)
    low, scales = int4(weight, axis, np.dtype(np.float32))
    found = reference([("real", "low", "scales", {"axis": axis, "block_size": 32})])(low=low, scales=scales)
    np.testing.assert_array_equal(found, dequantized(low, scales, axis))


def test_onnx_dequantizes_mxfp8_with_e8m0_scales_to_the_same_numbers():
    """ONNX has E8M0 as a type of scales from opset 24 on; its reference reads the bytes that we write."""
    weight = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    low, scales = mxfp8(weight, 0)
    powers = scales.view(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    found = reference([("real", "low", "powers", {"axis": 0, "block_size": 32})])(low=low, powers=powers)
    np.testing.assert_array_equal(found, dequantized(low, powers, 0))
    assert np.linalg.norm(found - weight) < 0.04 * np.linalg.norm(weight)


def reference(steps):
    """ONNX's reference of a chain of DequantizeLinear: rows of output, numbers, scales and attributes."""

    def run(**constants):
        nodes = [
            onnx.helper.make_node("DequantizeLinear", [x, scale], [out], **more) for out, x, scale, more in steps
        ]
        tensors = [ir.serde.serialize_tensor(ir.tensor(np.asarray(v), name=k)) for k, v in constants.items()]
        output = onnx.helper.make_tensor_value_info("real", onnx.TensorProto.FLOAT, None)
        graph = onnx.helper.make_graph(nodes, "blocks", [], [output], tensors)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=11)
        return ReferenceEvaluator(model).run(None, {})[0]

    return run
