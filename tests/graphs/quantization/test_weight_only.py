"""Weights in 8 and 4 bits: executed by ONNX Runtime as counted here in NumPy."""

import dataclasses

import numpy as np
import onnx
import pytest

import workbench as wb
from tests.graphs.drawn import TINY, draw
from tests.graphs.onnx_file import File, error, fused_kinds, logits, tensors

PRODUCT = "block01/mlp/fc1"


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize(("precision", "steps", "block"), [("w8", 127, 32), ("w4", 7, 32)])
def test_a_product_multiplies_the_rounded_weights_and_the_activation_as_it_is(
    drawn, drawn17, pictures, shelf, precision, steps, block, opset
):
    graph = drawn if opset == 20 else drawn17
    variant = wb.apply_recipe(graph, wb.Recipe(precision, layout="cpu"), shelf)
    weight = File(graph.path).weights[f"{PRODUCT}/kernel"]  # 32 rows, so that one block is a whole channel
    scale = np.abs(weight).max(axis=0) / steps
    read = {n.name: n.input[0] for n in onnx.load(variant.path).graph.node}[PRODUCT]
    x, y = tensors(variant.path, pictures, read, f"{PRODUCT}:out")
    np.testing.assert_allclose(y, x @ (np.rint(weight / scale) * scale), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("precision", "worst"), [("w8", 0.01), ("w4", 0.2)])
@pytest.mark.parametrize("layout", ["cpu", "tensorrt"])
def test_logits_stay_near_those_of_float32_weights(drawn, pictures, shelf, precision, worst, layout):
    variant = wb.apply_recipe(drawn, wb.Recipe(precision, layout=layout), shelf)
    assert 0 < error(logits(variant.path, pictures), logits(drawn.path, pictures)) < worst
    assert variant.path.stat().st_size < drawn.path.stat().st_size


def test_onnx_runtime_fuses_four_bit_weights_into_its_own_product(drawn, shelf, tmp_path):
    variant = wb.apply_recipe(drawn, wb.Recipe("w4", layout="cpu"), shelf)
    assert fused_kinds(str(variant.path), tmp_path).count("MatMulNBits") == 4 * TINY.depth


def test_on_a_cpu_it_is_measured_as_executed(drawn, pictures, shelf):
    for precision in ("w8", "w4"):
        engine = wb.build_engine(
            wb.apply_recipe(drawn, wb.Recipe(precision, layout="cpu"), shelf), "onnxruntime", shelf
        )
        assert wb.measure(engine, images=pictures, batch=8, seconds=0).execution == "executed"


def test_four_bit_weights_leave_layers_that_fill_no_whole_blocks(tmp_path):
    graph = draw(tmp_path, dataclasses.replace(TINY, mlp=48))
    variant = wb.apply_recipe(graph, wb.Recipe("w4", layout="cpu"), tmp_path)
    assert "block00/mlp/fc2 is left in fp32: 48 channels are no multiple of 32" in variant.notes
    assert "block00/mlp/fc2/weight/dequantize" not in File(variant.path).nodes
    assert "block00/mlp/fc1/weight/dequantize" in File(variant.path).nodes
