"""The emulation of NVFP4 and MXFP8, number for number against roundings that are computed here in another way."""

import ml_dtypes
import numpy as np
import onnx
import pytest

import workbench as wb
from tests.graphs.onnx_file import error, logits, tensors
from workbench.graphs.quantization.emulation import emulated

#: All FP4 numbers from small to large; a tie goes to the even one of its two neighbours in this list.
FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def nearest_fp4(value):
    """By looking at every number there is."""
    distances = np.abs(FP4 - abs(value))
    near = np.flatnonzero(distances == distances.min())
    return np.copysign(FP4[next(i for i in near if len(near) == 1 or i % 2 == 0)], value)


def nvfp4(x, tensor_scale):
    """Block by block, with ml_dtypes' rounding of the scales."""
    real = np.empty(x.size, np.float32)
    for start in range(0, x.size, 16):
        block = x.ravel()[start : start + 16]
        scale = np.float32(ml_dtypes.float8_e4m3fn(min(np.abs(block).max() / np.float32(6) / tensor_scale, 448)))
        step = scale * tensor_scale
        real[start : start + 16] = [nearest_fp4(value / step) * step if step else 0 for value in block]
    return real.reshape(x.shape)


def mxfp8(x):
    """Block by block; the power of two is found by trying them from small to large."""
    real = np.empty(x.size, np.float32)
    powers = 2.0 ** np.arange(-126, 127)
    for start in range(0, x.size, 32):
        block = x.ravel()[start : start + 32].astype(np.float64)
        power = powers[np.flatnonzero(powers >= np.float32(np.abs(block).max()) / np.float32(448))[0]]
        real[start : start + 32] = (block / power).astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * power
    return real.reshape(x.shape)


@pytest.mark.parametrize("high", ["fp16", "fp32"])
@pytest.mark.parametrize("optimized", [True, False])
def test_an_activation_is_rounded_block_by_block(drawn, pictures, shelf, high, optimized):
    for precision in ("nvfp4", "mxfp8"):
        plain = wb.apply_recipe(drawn, wb.Recipe(precision, high_precision=high), shelf, calibration=pictures)
        (scale,) = (
            (
                onnx.numpy_helper.to_array(t)
                for t in onnx.load(plain.path).graph.initializer
                if t.name == "block01/mlp/fc2/input0/scale"
            )
            if precision == "nvfp4"
            else (None,)
        )
        variant = emulated(plain, shelf)
        (product,) = (n for n in onnx.load(variant.path).graph.node if n.name == "block01/mlp/fc2")
        quantizer = "block01/mlp/fc2/input0/quantize/emulated"
        (reshape,) = (n for n in onnx.load(variant.path).graph.node if n.name == f"{quantizer}/blocks")
        read, real = tensors(variant.path, pictures[:4], reshape.input[0], product.input[0], optimized=optimized)
        wanted = mxfp8(read) if precision == "mxfp8" else nvfp4(read, scale)
        np.testing.assert_array_equal(real, wanted)


@pytest.mark.parametrize(("precision", "low", "high"), [("nvfp4", 0.02, 0.3), ("mxfp8", 0.002, 0.06)])
def test_logits_lose_about_as_much_as_the_type_has_steps(drawn, pictures, shelf, precision, low, high):
    variant = emulated(wb.apply_recipe(drawn, wb.Recipe(precision), shelf, calibration=pictures), shelf)
    assert low < error(logits(variant.path, pictures), logits(drawn.path, pictures)) < high
    measured = wb.measure(wb.build_engine(variant, "onnxruntime", shelf), images=pictures, batch=8, seconds=0)
    assert measured.execution == "emulated"


def test_an_activation_beyond_its_calibrated_range_saturates_and_stays_finite(drawn, pictures, shelf):
    variant = emulated(wb.apply_recipe(drawn, wb.Recipe("nvfp4"), shelf, calibration=0.01 * pictures), shelf)
    assert np.isfinite(logits(variant.path, 100 * pictures)).all()
    assert np.isfinite(logits(variant.path, 0 * pictures)).all()
