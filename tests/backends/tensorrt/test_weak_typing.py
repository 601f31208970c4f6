"""Edits for TensorRT 8.6, on networks of TensorRT for RTX: 8.6 makes none without a GPU."""

import contextlib

import numpy as np
import onnx
import pytest

from tests.graphs.drawn import draw as drawn_graph
from workbench.backends import backend
from workbench.backends.tensorrt.weak_typing import WeakTyping
from workbench.graphs.quantization.recipe import apply_recipe
from workbench.records import Recipe


@contextlib.contextmanager
def parsed(path):
    """The editor of a parsed file, its network, and the module."""
    trt = backend("tensorrt-rtx").adapter.module
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    assert parser.parse_from_file(str(path))
    yield WeakTyping(trt, network), network, trt
    del parser


@pytest.fixture(scope="module")
def variant(tmp_path_factory):
    if refusal := backend("tensorrt-rtx").missing():
        pytest.skip(refusal.remedy)
    folder = tmp_path_factory.mktemp("weak")
    images = np.random.default_rng(0).standard_normal((8, 16, 16, 3)).astype(np.float32)
    graph, recipe = drawn_graph(folder, opset=17), Recipe("int8", scope="attention")
    return apply_recipe(graph, recipe, folder, calibration=images)


def readers_of(network, name):
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    return [
        layer
        for layer in layers
        for index in range(layer.num_inputs)
        if layer.get_input(index) is not None and layer.get_input(index).name == name
    ]


def test_every_reader_of_dequantized_numbers_gets_them_without_the_cast_to_fp16(variant):
    with parsed(variant.path) as (editor, _, _):
        sites = [node for node in onnx.load(variant.path).graph.node if node.op_type == "DequantizeLinear"]
        assert editor.skip_casts_of_dequantized() == len(sites)
        assert editor.skip_casts_of_dequantized() == 0


def test_only_the_pair_behind_attention_is_skipped_where_the_projection_rounds_by_the_same_scale(variant):
    model = onnx.load(variant.path).graph
    pairs = [node.name for node in model.node if node.name.endswith("attention/context/output/dequantize")]
    with parsed(variant.path) as (editor, network, trt):
        editor.skip_casts_of_dequantized()
        assert editor.skip_repeated_rounding() == len(pairs) > 0
        assert editor.skip_repeated_rounding() == 0
        for name in pairs:
            (node,) = (node for node in model.node if node.name == name)
            left = {layer.type for layer in readers_of(network, node.output[0])}
            assert left <= {trt.LayerType.CAST}  # nobody reads that any more


def test_a_pair_stays_where_the_next_one_rounds_by_another_scale(variant, tmp_path):
    model = onnx.load(variant.path)
    for node in model.graph.node:
        if node.name.endswith("attention/proj/input0/quantize"):
            scale = next(each for each in model.graph.initializer if each.name == node.input[1])
            other = onnx.numpy_helper.from_array(2 * onnx.numpy_helper.to_array(scale), f"{scale.name}/other")
            model.graph.initializer.append(other)
            node.input[1] = other.name
    onnx.save(model, tmp_path / "other.onnx")
    with parsed(tmp_path / "other.onnx") as (editor, _, _):
        editor.skip_casts_of_dequantized()
        assert editor.skip_repeated_rounding() == 0
