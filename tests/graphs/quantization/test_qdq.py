from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import workbench as wb
from tests.graphs.drawn import TINY, draw
from workbench.graphs.quantization import saturation
from workbench.graphs.quantization.ranges import calibrate
from workbench.graphs.quantization.saturation import largest_weight

DENSE = ("attention/qkv", "attention/proj", "mlp/fc1", "mlp/fc2")


class File:
    """An ONNX file by names."""

    def __init__(self, path):
        self.model = onnx.load(path)
        self.nodes = {node.name: node for node in self.model.graph.node}
        self.weights = {t.name: numpy_helper.to_array(t) for t in self.model.graph.initializer}
        self.makers = {name: node for node in self.model.graph.node for name in node.output}

    def quantized_inputs(self, name):
        """Which inputs of a node come from DequantizeLinear."""
        return [
            index
            for index, tensor in enumerate(self.nodes[name].input)
            if tensor in self.makers and self.makers[tensor].op_type == "DequantizeLinear"
        ]

    def kinds(self):
        return [node.op_type for node in self.model.graph.node]


def recipe(precision="int8", **fields):
    fields.setdefault("high_precision", "fp32")
    return wb.Recipe(precision, **fields)


def logits(path, images, optimized=True):
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options).run(None, {"images": images})[0]


def error(ours, reference):
    return np.linalg.norm(ours - reference) / np.linalg.norm(reference)


@pytest.fixture
def kernels(drawn):
    return File(drawn.path).weights


@pytest.mark.parametrize("layout", ["tensorrt", "cpu"])
def test_weights_have_one_symmetric_scale_for_each_output_channel(drawn, pictures, shelf, kernels, layout):
    file = File(wb.apply_recipe(drawn, recipe(layout=layout), shelf, calibration=pictures).path)
    largest = 127 if layout == "tensorrt" else largest_weight()
    for place in DENSE:
        name = f"block01/{place}"
        kernel, scale = kernels[f"{name}/kernel"], file.weights[f"{name}/weight/scale"]
        np.testing.assert_allclose(scale, np.abs(kernel).max(axis=0) / largest, rtol=1e-6)
        integers = file.weights[f"{name}/weight/quantized"]
        assert integers.dtype == np.int8
        assert np.abs(integers.astype(int)).max() == largest
        assert np.abs(integers * scale - kernel).max() <= 0.5001 * scale.max()
        assert not file.weights[f"{name}/weight/zero"].any()


def test_the_tensorrt_layout_is_symmetric_and_leaves_biases_alone(drawn, pictures, shelf, kernels):
    variant = wb.apply_recipe(drawn, recipe(scope="attention"), shelf, calibration=pictures)
    file = File(variant.path)
    zeros = [value for name, value in file.weights.items() if name.endswith("/zero")]
    assert all(value.dtype == np.int8 and not value.any() for value in zeros)
    for place in DENSE:
        np.testing.assert_array_equal(
            file.weights[f"block00/{place}/bias_value"], kernels[f"block00/{place}/bias_value"]
        )
    assert not any(value.dtype == np.int32 for value in file.weights.values())


def test_linear_quantizes_both_inputs_of_four_products_a_block_and_nothing_else(drawn, pictures, shelf):
    file = File(wb.apply_recipe(drawn, recipe(), shelf, calibration=pictures).path)
    touched = {name for name in file.nodes if file.quantized_inputs(name)}
    assert touched == {f"block{i:02d}/{place}" for i in range(TINY.depth) for place in DENSE}
    assert all(file.quantized_inputs(name) == [0, 1] for name in touched)
    assert file.kinds().count("QuantizeLinear") == 4 * TINY.depth  # weights are stored in 8 bits


def test_attention_adds_the_five_sites_that_tensorrt_needs_for_fusion(drawn, pictures, shelf):
    file = File(wb.apply_recipe(drawn, recipe(scope="attention"), shelf, calibration=pictures).path)
    for index in range(TINY.depth):
        block = f"block{index:02d}/attention"
        assert file.quantized_inputs(f"{block}/scores") == [0, 1]
        assert file.quantized_inputs(f"{block}/context") == [0, 1]
        readers = [n for n in file.nodes.values() if f"{block}/context:out" in n.input]
        assert [n.op_type for n in readers] == ["QuantizeLinear"]
    untouched = [n for n in file.nodes.values() if n.op_type in ("LayerNormalization", "Softmax", "Gelu")]
    assert all(not file.quantized_inputs(n.name) for n in untouched)
    assert not file.quantized_inputs("block00/residual1")


def test_everything_quantizes_layernorm_softmax_gelu_and_residuals(drawn, pictures, shelf):
    file = File(wb.apply_recipe(drawn, recipe(scope="everything"), shelf, calibration=pictures).path)
    for name in ("norm1", "attention/softmax", "mlp/gelu", "residual1", "residual2"):
        assert 0 in file.quantized_inputs(f"block01/{name}"), name
    assert file.quantized_inputs("embedding/patches") == [0, 1]
    assert file.quantized_inputs("head") == [0, 1]


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("block01", [f"block01/{place}" for place in DENSE]),
        ("block02/fc2", ["block02/mlp/fc2"]),
        ("block00/attention", ["block00/attention/qkv", "block00/attention/proj"]),
    ],
)
def test_keep_leaves_blocks_sites_and_paths_high(drawn, pictures, shelf, keep, kept):
    file = File(wb.apply_recipe(drawn, recipe(exclude=(keep,)), shelf, calibration=pictures).path)
    dense = [f"block{i:02d}/{place}" for i in range(TINY.depth) for place in DENSE]
    assert [name for name in dense if not file.quantized_inputs(name)] == kept


def test_the_cpu_layout_uses_all_256_levels_of_the_range(drawn, pictures, shelf):
    minmax = wb.Calibration(method="minmax")
    made = wb.apply_recipe(drawn, recipe(layout="cpu", calibration=minmax), shelf, calibration=pictures)
    file, row = File(made.path), calibrate(drawn, pictures, shelf).by_tensor["block00/mlp/gelu:out"]
    scale, zero = (file.weights[f"block00/mlp/fc2/input0/{part}"] for part in ("scale", "zero"))
    assert zero.dtype == np.uint8
    assert scale == pytest.approx((row.high - row.low) / 255, rel=1e-6)
    assert scale * (0 - float(zero)) == pytest.approx(row.low, abs=float(scale))
    assert zero < 20  # GELU's negative half is short, and no level is spent on the rest


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
def test_symmetric_scales_are_the_methods_threshold_over_127(drawn, pictures, shelf, method):
    made = recipe(calibration=wb.Calibration(method=method))
    file = File(wb.apply_recipe(drawn, made, shelf, calibration=pictures).path)
    row = calibrate(drawn, pictures, shelf).by_tensor["block01/norm2:out"]
    scale = file.weights["block01/mlp/fc1/input0/scale"]
    assert scale == pytest.approx(row.threshold(method) / 127, rel=1e-6)


def test_fp8_scales_are_the_largest_magnitude_over_448(drawn, pictures, shelf, kernels):
    variant = wb.apply_recipe(drawn, recipe("fp8"), shelf, calibration=pictures)
    file = File(variant.path)
    row = calibrate(drawn, pictures, shelf).by_tensor["block01/norm2:out"]
    assert file.weights["block01/mlp/fc1/input0/scale"] == pytest.approx(row.minmax / 448, rel=1e-6)
    kernel = kernels["block01/mlp/fc1/kernel"]
    scale = file.weights["block01/mlp/fc1/weight/scale"]
    np.testing.assert_allclose(scale, np.abs(kernel).max(axis=0) / 448, rtol=1e-6)
    stored = file.weights["block01/mlp/fc1/weight/quantized"].astype(np.float32) * scale
    assert np.abs(stored - kernel).max() <= np.abs(kernel).max() / 16  # three bits of mantissa


def test_the_softmax_scale_is_noted_and_loses_least(drawn, pictures, shelf):
    variant = wb.apply_recipe(drawn, recipe(scope="attention"), shelf, calibration=pictures)
    file = File(variant.path)
    rows = calibrate(drawn, pictures, shelf, scope="attention").by_tensor
    probabilities = probabilities_of(drawn, pictures)
    for index in range(TINY.depth):
        name = f"block{index:02d}/attention"
        chosen = 127 * float(file.weights[f"{name}/context/input0/scale"])
        row, values = rows[f"{name}/softmax:out"], probabilities[index]
        losses = {t: rounding_loss(values, t) for t in (row.entropy, row.minmax, 1.0)}
        assert losses[min(losses, key=losses.get)] == pytest.approx(rounding_loss(values, chosen), rel=0.05)
    assert sum(f"softmax scales of {TINY.depth} blocks" in note for note in variant.notes) == 1


@pytest.mark.parametrize("opset", [17, 20])
def test_the_scale_after_a_gelu_loses_least_and_a_clip_that_loses_more_is_noted(
    drawn, drawn17, pictures, shelf, opset
):
    graph = drawn if opset == 20 else drawn17
    variant = wb.apply_recipe(graph, recipe(), shelf, calibration=pictures)
    file, rows = File(variant.path), calibrate(graph, pictures, shelf).by_tensor
    whole = 0
    for index, values in enumerate(tensors_of(graph, pictures, "mlp/gelu:out")):
        row = rows[f"block{index:02d}/mlp/gelu:out"]
        assert row.gelu
        chosen = 127 * float(file.weights[f"block{index:02d}/mlp/fc2/input0/scale"])
        loss = {t: rounding_loss(np.abs(values), t) for t in (row.entropy, row.minmax)}
        assert chosen == pytest.approx(min(loss, key=loss.get), rel=1e-6)
        whole += loss[row.minmax] < loss[row.entropy]
    assert whole
    assert any(f"{whole} GELU outputs reach to the largest value" in note for note in variant.notes)


def probabilities_of(graph, images):
    return tensors_of(graph, images, "attention/softmax:out")


def tensors_of(graph, images, place):
    model = onnx.load(graph.path)
    names = [f"block{i:02d}/{place}" for i in range(TINY.depth)]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(names, {"images": images})


def rounding_loss(values, threshold):
    step = threshold / 127
    return float(np.sum((values - np.minimum(np.rint(values / step), 127) * step) ** 2))


@pytest.mark.parametrize("precision", ["int8", "fp8"])
@pytest.mark.parametrize("layout", ["tensorrt", "cpu"])
@pytest.mark.parametrize("scope", ["linear", "attention"])
def test_the_error_of_rounding_is_a_few_percent(drawn, pictures, shelf, precision, layout, scope):
    made = recipe(precision, scope=scope, layout=layout)
    variant = wb.apply_recipe(drawn, made, shelf, calibration=pictures)
    reference = logits(drawn.path, pictures)
    assert 0.001 < error(logits(variant.path, pictures, optimized=False), reference) < 0.06


@pytest.mark.parametrize("largest", [saturation.FULL_RANGE, saturation.REDUCED_RANGE])
@pytest.mark.parametrize(("precision", "layout"), [("int8", "cpu"), ("int8-dynamic", "tensorrt")])
def test_reduced_weights_never_saturate_pmaddubsw_and_full_ones_can(
    drawn, pictures, tmp_path, monkeypatch, largest, precision, layout
):
    monkeypatch.setattr(saturation, "saturates", lambda: largest == saturation.REDUCED_RANGE)
    variant = wb.apply_recipe(drawn, wb.Recipe(precision, layout=layout), tmp_path, calibration=pictures)
    saturated = False
    for name, weight in File(variant.path).weights.items():
        if name.startswith("block") and name.endswith(("/weight/quantized", "/weight/integers")):
            assert np.abs(weight.astype(int)).max() == largest
            activations = np.where(weight.T > 0, 255, 0).astype(np.uint8)  # the worst for each channel
            exact = (activations.astype(np.int64) * weight.T).sum(axis=1)
            saturated |= bool((exact != pmaddubsw_product(activations, weight.T)).any())
    assert saturated == (largest == saturation.FULL_RANGE)
    assert any(f"±{largest}" in note for note in variant.notes)


def pmaddubsw_product(activations, weights):
    """Rows times rows as x86 without VNNI adds them: two products in 16 bits, which saturate, then 32 bits."""
    products = activations.astype(np.int64) * weights
    pairs = products.reshape(len(products), -1, 2).sum(axis=2)
    return np.clip(pairs, -32768, 32767).sum(axis=1)


def test_the_probe_agrees_with_the_flags_of_this_processor():
    flags = set(Path("/proc/cpuinfo").read_text().split())
    if not flags & {"avx2"}:
        pytest.skip("not an x86 with AVX2; the probe itself decides there")
    assert saturation.saturates() == (not flags & {"avx512_vnni", "avx_vnni", "amx_int8"})


def test_dynamic_quantization_computes_what_its_specification_says(drawn, pictures, shelf):
    """DynamicQuantizeLinear's formula in NumPy, for the first product of the first block."""
    variant = wb.apply_recipe(drawn, wb.Recipe("int8-dynamic"), shelf)
    model = onnx.load(variant.path)
    wanted = ["block00/norm1:out", "block00/attention/qkv:out"]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    x, y = session.run(wanted, {"images": pictures})
    low, high = min(x.min(), 0), max(x.max(), 0)
    scale = (high - low) / np.float32(255)
    zero = np.rint(-low / scale)
    data = np.clip(np.rint(x / scale) + zero, 0, 255) - zero
    kernel = File(drawn.path).weights["block00/attention/qkv/kernel"]
    steps = np.abs(kernel).max(axis=0) / saturation.largest_weight()
    expected = data @ np.rint(kernel / steps) * steps * scale
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_onnx_runtime_fuses_dynamic_products_with_their_biases(drawn, shelf, tmp_path):
    variant = wb.apply_recipe(drawn, wb.Recipe("int8-dynamic"), shelf)
    kinds = optimized_kinds(variant.path, tmp_path)
    assert kinds.count("DynamicQuantizeMatMul") == 4 * TINY.depth
    assert "MatMulInteger" not in kinds


def test_onnx_runtime_fuses_the_cpu_layout_into_integer_products(drawn, pictures, shelf, tmp_path):
    variant = wb.apply_recipe(drawn, recipe(layout="cpu"), shelf, calibration=pictures)
    kinds = optimized_kinds(variant.path, tmp_path)
    assert kinds.count("MatMulIntegerToFloat") == 4 * TINY.depth
    assert "DequantizeLinear" not in kinds


def optimized_kinds(path, folder):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node]


def test_dynamic_errors_are_a_few_percent_and_keep_is_heeded(drawn, pictures, shelf):
    variant = wb.apply_recipe(drawn, wb.Recipe("int8-dynamic", exclude=("block00", "block01/fc1")), shelf)
    file = File(variant.path)
    integers = {name for name, node in file.nodes.items() if node.op_type == "MatMulInteger"}
    kept = {"block01/mlp/fc1", *(f"block00/{place}" for place in DENSE)}
    dense = {f"block{i:02d}/{place}" for i in range(TINY.depth) for place in DENSE}
    assert integers == {f"{name}/integers" for name in dense - kept}
    assert 0.001 < error(logits(variant.path, pictures), logits(drawn.path, pictures)) < 0.05


def test_outputs_of_one_channel_that_are_all_zero_stay_zero(tmp_path, pictures):
    def silence(weights):
        for part in ("kernel", "bias_value"):
            weights[f"block00/mlp/fc1/{part}"][..., 5] = 0

    graph = draw(tmp_path, edit=silence)
    variant = wb.apply_recipe(graph, recipe(), tmp_path, calibration=pictures)
    scale = File(variant.path).weights["block00/mlp/fc1/weight/scale"]
    assert np.isfinite(scale).all()
    assert (scale > 0).all()
    assert error(logits(variant.path, pictures, optimized=False), logits(graph.path, pictures)) < 0.06


def test_below_opset_19_weights_are_floats_on_the_grid_before_a_pair(tmp_path, pictures):
    """TensorRT 8.6 fails on 8-bit weights behind a DequantizeLinear alone."""
    files, answers = {}, {}
    for opset in (17, 20):
        variant = wb.apply_recipe(draw(tmp_path, opset=opset), recipe(), tmp_path, calibration=pictures)
        files[opset] = File(variant.path)
        answers[opset] = logits(variant.path, pictures, optimized=False)
    for name in (f"block00/{place}" for place in DENSE):
        old, new = (files[opset] for opset in (17, 20))
        back = old.makers[old.nodes[name].input[1]]
        pair = old.makers[back.input[0]]
        assert (pair.op_type, back.op_type) == ("QuantizeLinear", "DequantizeLinear")
        on_grid, scale = (old.weights[n] for n in pair.input[:2])
        expected = new.weights[new.makers[new.nodes[name].input[1]].input[0]]
        np.testing.assert_array_equal(np.rint(on_grid / scale).astype(np.int8), expected)
    np.testing.assert_allclose(answers[17], answers[20], rtol=0, atol=1e-4 * np.abs(answers[20]).max())
