"""NVFP4 and MXFP8 in a file: which products read them, on both sides, and which are left."""

import dataclasses

import onnx
import pytest

import workbench as wb
from tests.graphs.drawn import TINY, draw
from workbench.graphs import model_file
from workbench.graphs.structure.compute_type import type_of
from workbench.graphs.structure.operators import PRODUCTS

LINEAR = {"qkv": "attention/qkv", "proj": "attention/proj", "fc1": "mlp/fc1", "fc2": "mlp/fc2"}


def product_types(variant):
    model = model_file.load(variant.path)
    return {node.name: type_of(node) for node in model.graph if node.op_type in PRODUCTS}


@pytest.mark.parametrize("high", ["fp16", "bf16", "fp32"])
@pytest.mark.parametrize(("precision", "low"), [("nvfp4", "fp4"), ("mxfp8", "fp8")])
def test_all_linear_layers_of_the_blocks_multiply_low_numbers_and_nothing_else_does(
    drawn, pictures, shelf, precision, low, high
):
    variant = wb.apply_recipe(drawn, wb.Recipe(precision, high_precision=high), shelf, calibration=pictures)
    types = product_types(variant)
    linear = {f"block{i:02d}/{path}" for i in range(TINY.depth) for path in LINEAR.values()}
    assert {name for name, kind in types.items() if kind == low} == linear
    assert {kind for name, kind in types.items() if name not in linear} == {high}
    onnx.checker.check_model(onnx.load(variant.path))


@pytest.mark.parametrize("precision", ["nvfp4", "mxfp8"])
def test_excluded_places_stay_in_high_precision(drawn, pictures, shelf, precision):
    recipe = wb.Recipe(precision, exclude=("block00", "block01/fc2"))
    types = product_types(wb.apply_recipe(drawn, recipe, shelf, calibration=pictures))
    left = {
        name for name, kind in types.items() if kind == "fp16" and name.removeprefix("block")[3:] in LINEAR.values()
    }
    assert left == {*(f"block00/{path}" for path in LINEAR.values()), "block01/mlp/fc2"}


def test_a_layer_whose_channels_fill_no_whole_blocks_is_left_and_named(pictures, tmp_path):
    graph = draw(tmp_path, dataclasses.replace(TINY, mlp=40))
    variant = wb.apply_recipe(graph, wb.Recipe("nvfp4"), tmp_path, calibration=pictures)
    assert product_types(variant)["block00/mlp/fc2"] == "fp16"
    assert product_types(variant)["block00/mlp/fc1"] == "fp4"
    assert "block00/mlp/fc2 is left in fp16: 40 channels are no multiple of 16" in variant.notes


def test_a_scope_beyond_the_linear_layers_changes_nothing_and_is_said(drawn, pictures, shelf):
    variant = wb.apply_recipe(drawn, wb.Recipe("mxfp8", scope="attention"), shelf)
    plain = wb.apply_recipe(drawn, wb.Recipe("mxfp8"), shelf)
    assert variant.path.read_bytes() == plain.path.read_bytes()
    assert any("the scope attention changes nothing here" in note for note in variant.notes)
