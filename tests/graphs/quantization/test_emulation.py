"""An emulated variant computes what its own types would, and says that it is emulated."""

import json

import ml_dtypes
import numpy as np
import pytest

import workbench as wb
from tests.graphs.drawn import TINY, draw, jax_parameters
from tests.graphs.onnx_file import File, logits, tensors
from workbench.backends.onnxruntime import inference_session
from workbench.graphs.quantization.emulation import EMULATED, emulated
from workbench.measuring import Subject
from workbench.models.baselines import open_jax

TYPES = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
OUTPUTS = ["embedding/output", *(f"block{i:02d}/output" for i in range(TINY.depth))]


@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize("optimized", [True, False])
def test_every_output_holds_only_numbers_of_the_type(drawn, pictures, shelf, precision, optimized):
    variant = emulated(wb.apply_recipe(drawn, wb.Recipe(precision), shelf), shelf)
    names = [*OUTPUTS, "block01/attention/softmax:out", "block01/mlp/gelu:out", "block02/mlp/fc2:out"]
    for name, value in zip(names, tensors(variant.path, pictures, *names, optimized=optimized)):
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, value.astype(TYPES[precision]).astype(np.float32), err_msg=name)


@pytest.mark.parametrize("precision", TYPES)
def test_one_product_is_rounded_as_numpy_rounds_it(drawn, pictures, shelf, precision):
    kind = TYPES[precision]
    variant = emulated(wb.apply_recipe(drawn, wb.Recipe(precision), shelf), shelf)
    x, y = tensors(variant.path, pictures, f"block00/norm1/{precision}:0", "block00/attention/qkv:out")
    kernel = File(drawn.path).weights["block00/attention/qkv/kernel"].astype(kind).astype(np.float64)
    exact = x.astype(np.float64) @ kernel
    one_step = np.abs(exact) * 2.0 ** -(np.finfo(np.float16).nmant if precision == "fp16" else 7)
    assert (np.abs(y - exact) <= 0.51 * one_step + 1e-6).mean() > 0.999


def test_a_variant_without_such_types_is_returned_as_it_is(drawn, pictures, shelf):
    for recipe in (wb.Recipe(), wb.Recipe("int8-dynamic"), wb.Recipe("int8", layout="cpu")):
        variant = wb.apply_recipe(drawn, recipe, shelf, calibration=pictures)
        assert emulated(variant, shelf) is variant


@pytest.mark.parametrize("recipe", [wb.Recipe("bf16"), wb.Recipe("fp8"), wb.Recipe("fp16")], ids=lambda r: r.label)
def test_it_is_made_once_and_measurements_of_it_are_labelled_emulated(drawn, pictures, shelf, recipe):
    plain = wb.apply_recipe(drawn, recipe, shelf, calibration=pictures)
    variant = emulated(plain, shelf)
    assert emulated(plain, shelf) == variant
    assert variant.digest != plain.digest
    assert variant.notes[-1] == EMULATED
    assert variant.runtimes == ("onnxruntime",)
    engine = wb.build_engine(variant, "onnxruntime", shelf)
    measured = wb.measure(engine, images=pictures, batch=8, seconds=0)
    assert measured.execution == "emulated"
    assert measured.agreement >= 0.9


def three_steps(weights):
    """Each block adds 30,000 to one channel of the residual stream, which three blocks take beyond 65,504."""
    for index in range(TINY.depth):
        weights[f"block{index:02d}/mlp/fc2/bias_value"][3] = 3e4


@pytest.mark.parametrize("recipe", [wb.Recipe("fp16"), wb.Recipe("int8"), wb.Recipe("w8")], ids=lambda r: r.label)
def test_an_overflow_of_the_residual_stream_in_fp16_is_found_without_a_gpu(tmp_path, pictures, recipe):
    graph = draw(tmp_path, edit=three_steps)
    engine = wb.build_engine(
        wb.apply_recipe(graph, recipe, tmp_path, calibration=pictures), "onnxruntime", tmp_path
    )
    assert wb.measure(engine, batch=8, seconds=0.01).execution == "emulated"  # its latency can be taken
    with pytest.raises(wb.WorkbenchError, match="NaN or infinite"):
        wb.measure(engine, images=pictures, batch=8, seconds=0)


def test_the_same_model_keeps_its_answers_where_its_16_bit_types_reach_further(tmp_path, pictures):
    graph = draw(tmp_path, edit=three_steps)
    wide = wb.Recipe("int8", high_precision="fp32")
    engine = wb.build_engine(wb.apply_recipe(graph, wide, tmp_path, calibration=pictures), "onnxruntime", tmp_path)
    assert wb.measure(engine, images=pictures, batch=8, seconds=0).agreement > 0.5


@pytest.mark.parametrize("high", ["fp16", "fp32"])
def test_int8_in_tensorrts_layout_is_measured_without_8_bit_kernels(drawn, pictures, shelf, high):
    recipe = wb.Recipe("int8", high_precision=high)
    variant = wb.apply_recipe(drawn, recipe, shelf, calibration=pictures)
    engine = wb.build_engine(variant, "onnxruntime", shelf)
    subject = Subject.of(engine)
    with wb.open_engine(engine) as session, subject.exact(session) as exact:
        found = subject.logits(exact)(pictures)
        assert "MatMulIntegerToFloat" not in {row["type"] for row in exact.layers({"images": pictures}, 1)}
    path = variant.path if high == "fp32" else variant.emulation
    written = inference_session(path, optimize=False).run(None, {"images": pictures})[0]
    assert np.linalg.norm(found - written) <= 2e-3 * np.linalg.norm(written)
    measured = wb.measure(engine, images=pictures, batch=8, seconds=0)
    assert measured.execution == "emulated"
    assert measured.predictions == tuple(found.argmax(axis=1))


def test_int8_in_the_cpu_layout_is_measured_as_it_runs_and_the_log_lists_what_runs(drawn, pictures, shelf):
    recipe = wb.Recipe("int8", layout="cpu")
    engine = wb.build_engine(wb.apply_recipe(drawn, recipe, shelf, calibration=pictures), "onnxruntime", shelf)
    listed = [row["type"] for row in json.loads(engine.log_path.read_text())]
    assert listed.count("MatMulIntegerToFloat") == 4 * TINY.depth  # fused: no node of the file has this type
    with wb.open_engine(engine) as session, Subject.of(engine).exact(session) as exact:
        assert exact is session
    assert wb.measure(engine, images=pictures, batch=8, seconds=0).execution == "executed"


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", "float16"), ("bf16", "bfloat16")])
def test_it_loses_what_jax_loses_in_that_type(drawn, pictures, shelf, precision, dtype):
    spec, params = jax_parameters(drawn)
    exact = wb.logits(spec, params, pictures)
    with open_jax(spec, params, dtype=dtype) as session:
        theirs = session.run({"images": pictures})["logits"]
    ours = logits(emulated(wb.apply_recipe(drawn, wb.Recipe(precision), shelf), shelf).path, pictures)
    norms = [np.linalg.norm(difference) for difference in (ours - exact, theirs - exact, ours - theirs)]
    assert 0.5 < norms[0] / norms[1] < 2
    assert norms[2] < 2 * norms[1]  # two roundings of the same numbers
