"""Where Q/DQ pairs and 8-bit weights go, and the scales that they carry."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import workbench as wb
from tests.graphs.drawn import TINY, draw
from tests.graphs.onnx_file import File, error, fused_kinds, logits, tensors
from workbench.graphs.quantization import saturation
from workbench.graphs.quantization.ranges import calibrate
from workbench.graphs.quantization.saturation import largest_weight
from workbench.records import METHODS

LINEAR = ("attention/qkv", "attention/proj", "mlp/fc1", "mlp/fc2")
BLOCKS = tuple(f"block{i:02d}" for i in range(TINY.depth))
DENSE = [f"{block}/{place}" for block in BLOCKS for place in LINEAR]


@pytest.fixture
def made(drawn, pictures, shelf):
    """The variant of a recipe, int8 beside fp32 unless it says otherwise."""

    def apply(precision="int8", graph=drawn, **fields):
        recipe = wb.Recipe(precision, **{"high_precision": "fp32", **fields})
        return wb.apply_recipe(graph, recipe, shelf, calibration=pictures)

    return apply


# ---- where ------------------------------------------------------------------------------------------------------


def test_linear_quantizes_both_inputs_of_four_products_a_block_and_nothing_else(made):
    file = File(made().path)
    assert {name: file.quantized_inputs(name) for name in file.nodes if file.quantized_inputs(name)} == {
        name: [0, 1] for name in DENSE
    }
    assert file.kinds.count("QuantizeLinear") == 4 * TINY.depth  # weights are stored in 8 bits


def test_attention_adds_the_five_sites_that_tensorrt_needs_for_fusion(made):
    file = File(made(scope="attention").path)
    for block in BLOCKS:
        assert file.quantized_inputs(f"{block}/attention/scores") == [0, 1]
        assert file.quantized_inputs(f"{block}/attention/context") == [0, 1]
        readers = [n for n in file.nodes.values() if f"{block}/attention/context:out" in n.input]
        assert [n.op_type for n in readers] == ["QuantizeLinear"]
    untouched = [n for n in file.nodes.values() if n.op_type in ("LayerNormalization", "Softmax", "Gelu")]
    assert not any(file.quantized_inputs(name) for name in ("block00/residual1", *(n.name for n in untouched)))


def test_everything_quantizes_layernorm_softmax_gelu_and_residuals(made):
    file = File(made(scope="everything").path)
    for name in ("norm1", "attention/softmax", "mlp/gelu", "residual1", "residual2"):
        assert 0 in file.quantized_inputs(f"block01/{name}"), name
    assert file.quantized_inputs("embedding/patches") == file.quantized_inputs("head") == [0, 1]


@pytest.mark.parametrize(
    ("name", "excluded"),
    [
        ("block01", [f"block01/{place}" for place in LINEAR]),
        ("block02/fc2", ["block02/mlp/fc2"]),
        ("block00/attention", ["block00/attention/qkv", "block00/attention/proj"]),
    ],
)
def test_blocks_places_and_paths_are_excluded(made, name, excluded):
    file = File(made(exclude=(name,)).path)
    assert [each for each in DENSE if not file.quantized_inputs(each)] == excluded
    integers = File(made("int8-dynamic", exclude=(name,)).path).nodes
    assert [each for each in DENSE if f"{each}/integers" not in integers] == excluded


# ---- scales ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "layout", "largest"),
    [("int8", "tensorrt", 127), ("int8", "cpu", largest_weight()), ("fp8", "tensorrt", 448)],
)
def test_weights_have_one_symmetric_scale_for_each_output_channel(drawn, made, precision, layout, largest):
    file, kernels = File(made(precision, layout=layout).path), File(drawn.path).weights
    for name in DENSE:
        kernel, scale = kernels[f"{name}/kernel"], file.weights[f"{name}/weight/scale"]
        np.testing.assert_allclose(scale, np.abs(kernel).max(axis=0) / largest, rtol=1e-6)
        stored = file.weights[f"{name}/weight/quantized"]
        assert stored.dtype == (np.int8 if precision == "int8" else ml_dtypes.float8_e4m3fn)
        assert np.abs(stored.astype(float)).max() == largest
        rounding = 0.5001 * scale.max() if precision == "int8" else np.abs(kernel).max() / 16  # 3 bits of mantissa
        assert np.abs(stored.astype(float) * scale - kernel).max() <= rounding
        assert not file.weights[f"{name}/weight/zero"].astype(float).any()


def test_the_tensorrt_layout_is_symmetric_and_leaves_biases_alone(drawn, made):
    weights, before = File(made(scope="attention").path).weights, File(drawn.path).weights
    zeros = [value for name, value in weights.items() if name.endswith("/zero")]
    assert all(value.dtype == np.int8 and not value.any() for value in zeros)
    for name in DENSE:
        np.testing.assert_array_equal(weights[f"{name}/bias_value"], before[f"{name}/bias_value"])
    assert not any(value.dtype == np.int32 for value in weights.values())


def test_the_cpu_layout_uses_all_256_levels_of_the_range(drawn, pictures, shelf, made):
    weights = File(made(layout="cpu", calibration=wb.Calibration(method="minmax")).path).weights
    row = calibrate(drawn, pictures, shelf).by_tensor["block00/mlp/gelu:out"]
    scale, zero = (weights[f"block00/mlp/fc2/input0/{part}"] for part in ("scale", "zero"))
    assert zero.dtype == np.uint8
    assert scale == pytest.approx((row.high - row.low) / 255, rel=1e-6)
    assert scale * (0 - float(zero)) == pytest.approx(row.low, abs=float(scale))
    assert zero < 20  # GELU's negative half is short, and few levels are spent on it


@pytest.mark.parametrize(
    ("precision", "method", "largest"), [*(("int8", method, 127) for method in METHODS), ("fp8", "minmax", 448)]
)
def test_symmetric_scales_are_the_methods_threshold_over_the_largest_number(
    drawn, pictures, shelf, made, precision, method, largest
):
    weights = File(made(precision, calibration=wb.Calibration(method=method)).path).weights
    row = calibrate(drawn, pictures, shelf).by_tensor["block01/norm2:out"]
    assert weights["block01/mlp/fc1/input0/scale"] == pytest.approx(row.threshold(method) / largest, rel=1e-6)


def rounding_loss(values, threshold):
    step = threshold / 127
    return float(np.sum((np.abs(values) - np.minimum(np.rint(np.abs(values) / step), 127) * step) ** 2))


def test_the_softmax_scale_is_noted_and_loses_least(drawn, pictures, shelf, made):
    variant = made(scope="attention")
    file, rows = File(variant.path), calibrate(drawn, pictures, shelf, scope="attention").by_tensor
    names = [f"{block}/attention/softmax:out" for block in BLOCKS]
    for block, name, values in zip(BLOCKS, names, tensors(drawn.path, pictures, *names)):
        chosen, row = 127 * float(file.weights[f"{block}/attention/context/input0/scale"]), rows[name]
        least = min(rounding_loss(values, point) for point in (row.entropy, row.minmax, 1.0))
        assert least == pytest.approx(rounding_loss(values, chosen), rel=0.05)
    assert sum(f"softmax scales of {TINY.depth} blocks" in note for note in variant.notes) == 1


@pytest.mark.parametrize("opset", [17, 20])
def test_the_scale_after_a_gelu_loses_least_and_a_clip_that_loses_more_is_noted(
    drawn, drawn17, pictures, shelf, made, opset
):
    graph = drawn if opset == 20 else drawn17
    variant = made(graph=graph)
    file, rows = File(variant.path), calibrate(graph, pictures, shelf).by_tensor
    names, whole = [f"{block}/mlp/gelu:out" for block in BLOCKS], 0
    for block, name, values in zip(BLOCKS, names, tensors(graph.path, pictures, *names)):
        chosen, row = 127 * float(file.weights[f"{block}/mlp/fc2/input0/scale"]), rows[name]
        assert row.gelu
        loss = {point: rounding_loss(values, point) for point in (row.entropy, row.minmax)}
        assert chosen == pytest.approx(min(loss, key=loss.get), rel=1e-6)
        whole += loss[row.minmax] < loss[row.entropy]
    assert whole
    assert any(f"{whole} GELU outputs reach to the largest value" in note for note in variant.notes)


def test_outputs_of_one_channel_that_are_all_zero_stay_zero(tmp_path, pictures, made):
    def silence(weights):
        for part in ("kernel", "bias_value"):
            weights[f"block00/mlp/fc1/{part}"][..., 5] = 0

    graph = draw(tmp_path, edit=silence)
    variant = made(graph=graph)
    scale = File(variant.path).weights["block00/mlp/fc1/weight/scale"]
    assert (scale > 0).all()
    assert np.isfinite(scale).all()
    assert error(logits(variant.path, pictures), logits(graph.path, pictures)) < 0.06


# ---- what it computes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["int8", "fp8", "int8-dynamic"])
@pytest.mark.parametrize("layout", ["tensorrt", "cpu"])
@pytest.mark.parametrize("scope", ["linear", "attention"])
def test_the_error_of_rounding_is_a_few_percent(drawn, pictures, made, precision, layout, scope):
    variant = made(precision, scope=scope, layout=layout)
    assert 0.001 < error(logits(variant.path, pictures), logits(drawn.path, pictures)) < 0.06


def test_below_opset_19_weights_are_rounded_floats_before_a_pair(drawn17, drawn, pictures, made):
    """TensorRT 8.6 fails on 8-bit weights behind a DequantizeLinear alone."""
    variants = [made(graph=graph) for graph in (drawn17, drawn)]
    old, new = (File(variant.path) for variant in variants)
    for name in DENSE:
        back = old.makers[old.nodes[name].input[1]]
        pair = old.makers[back.input[0]]
        assert (pair.op_type, back.op_type) == ("QuantizeLinear", "DequantizeLinear")
        rounded, scale = (old.weights[n] for n in pair.input[:2])
        expected = new.weights[new.makers[new.nodes[name].input[1]].input[0]]
        np.testing.assert_array_equal(np.rint(rounded / scale).astype(np.int8), expected)
    ours, theirs = (logits(variant.path, pictures) for variant in variants)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def test_dynamic_quantization_computes_what_its_specification_says(drawn, pictures, made):
    """DynamicQuantizeLinear's formula in NumPy, for the first product of the first block."""
    x, y = tensors(made("int8-dynamic").path, pictures, "block00/norm1:out", "block00/attention/qkv:out")
    low, high = min(x.min(), 0), max(x.max(), 0)
    scale = (high - low) / np.float32(255)
    zero = np.rint(-low / scale)
    data = np.clip(np.rint(x / scale) + zero, 0, 255) - zero
    kernel = File(drawn.path).weights["block00/attention/qkv/kernel"]
    steps = np.abs(kernel).max(axis=0) / largest_weight()
    expected = data @ np.rint(kernel / steps) * steps * scale
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("precision", "fused", "gone"),
    [
        ("int8-dynamic", "DynamicQuantizeMatMul", "MatMulInteger"),
        ("int8", "MatMulIntegerToFloat", "DequantizeLinear"),
    ],
)
def test_onnx_runtime_fuses_the_cpu_layout_into_integer_products(made, tmp_path, precision, fused, gone):
    kinds = fused_kinds(made(precision, layout="cpu").path, tmp_path)
    assert kinds.count(fused) == 4 * TINY.depth
    assert gone not in kinds


# ---- saturation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [saturation.FULL_RANGE, saturation.REDUCED_RANGE])
@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
def test_reduced_weights_never_saturate_pmaddubsw_and_full_ones_can(
    drawn, pictures, tmp_path, monkeypatch, largest, precision
):
    monkeypatch.setattr(saturation, "saturates", lambda: largest == saturation.REDUCED_RANGE)
    variant = wb.apply_recipe(drawn, wb.Recipe(precision, layout="cpu"), tmp_path, calibration=pictures)
    saturated = False
    for name, weight in File(variant.path).weights.items():
        if name.startswith("block") and name.endswith(("/weight/quantized", "/weight/integers")):
            assert np.abs(weight.astype(int)).max() == largest
            worst = np.where(weight.T > 0, 255, 0).astype(np.int64)  # the activations that add up most
            exact = (worst * weight.T).sum(axis=1)
            saturated |= bool((exact != pmaddubsw_product(worst, weight.T)).any())
    assert saturated == (largest == saturation.FULL_RANGE)
    assert any(f"±{largest}" in note for note in variant.notes)


def pmaddubsw_product(activations, weights):
    """Rows times rows as x86 without VNNI adds them: two products in 16 bits, which saturate, then 32 bits."""
    pairs = (activations * weights).reshape(len(weights), -1, 2).sum(axis=2)
    return np.clip(pairs, -32768, 32767).sum(axis=1)


def test_the_probe_agrees_with_the_flags_of_this_processor():
    flags = set(Path("/proc/cpuinfo").read_text().split())
    if not flags & {"avx2"}:
        pytest.skip("not an x86 with AVX2; the probe itself decides there")
    assert saturation.saturates() == (not flags & {"avx512_vnni", "avx_vnni", "amx_int8"})
