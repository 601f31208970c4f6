"""Edits for TensorRT 8.6, on networks of TensorRT for RTX: 8.6 makes none without a GPU."""

import contextlib
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from tests.graphs.drawn import draw as drawn_graph
from workbench.backends import backend
from workbench.backends.tensorrt.versions import VersionAdapter
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


def test_the_casts_on_both_sides_of_rounding_are_skipped(variant):
    nodes = onnx.load(variant.path).graph.node
    casts = {node.output[0] for node in nodes if node.op_type == "Cast"}
    behind = [node for node in nodes if node.op_type == "DequantizeLinear"]
    before = [node for node in nodes if node.op_type == "QuantizeLinear" and node.input[0] in casts]
    with parsed(variant.path) as (editor, network, trt):
        assert editor.skip_casts_of_rounding() == len(behind) + len(before)
        assert editor.skip_casts_of_rounding() == 0
        assert before
        layers = [network.get_layer(index) for index in range(network.num_layers)]
        made_by_cast = {layer.get_output(0).name for layer in layers if layer.type == trt.LayerType.CAST}
        read = {layer.get_input(0).name for layer in layers if layer.type == trt.LayerType.QUANTIZE}
        assert not read & made_by_cast


class Layer(SimpleNamespace):
    """A layer of TensorRT 8.6: TensorRT for RTX has no types of layers that could be set."""

    num_inputs, num_outputs = 0, 1

    def get_output(self, index):
        return SimpleNamespace(name=f"{self.name}:{index}")

    def set_output_type(self, index, dtype):
        self.outputs = {index: dtype}


def test_fp16_is_preferred_in_attention_that_is_not_quantized_and_nowhere_else():
    kinds = SimpleNamespace(
        **{name: name for name in ("QUANTIZE", "DEQUANTIZE", "CAST", "IDENTITY", "SHUFFLE", "CONSTANT")}
    )
    trt = SimpleNamespace(
        LayerType=kinds,
        DataType=SimpleNamespace(HALF="half"),
        NetworkDefinitionCreationFlag=SimpleNamespace(),
        BuilderFlag=SimpleNamespace(PREFER_PRECISION_CONSTRAINTS="prefer", FP16="fp16", INT8="int8"),
    )
    names = {"scores": "MATRIX_MULTIPLY", "softmax": "SOFTMAX", "split/order": "SHUFFLE", "qkv": "MATRIX_MULTIPLY"}
    layers = [Layer(name=f"block00/attention/{name}", type=kind) for name, kind in names.items()]
    network = SimpleNamespace(num_layers=len(layers), get_layer=layers.__getitem__)
    adapter = VersionAdapter(SimpleNamespace(__name__="tensorrt", __version__="8.6.0", **vars(trt)))
    for recipe, preferred in ((Recipe("int8"), ["scores", "softmax"]), (Recipe("int8", scope="attention"), [])):
        for layer in layers:
            vars(layer).pop("precision", None)
        flags = []
        adapter.allow_types(network, SimpleNamespace(set_flag=flags.append), recipe)
        chosen = [layer.name.removeprefix("block00/attention/") for layer in layers if hasattr(layer, "precision")]
        assert chosen == preferred
        assert ("prefer" in flags) == bool(preferred)
        assert {"fp16", "int8"} <= set(flags)


def test_only_the_pair_behind_attention_is_skipped_where_the_projection_rounds_by_the_same_scale(variant):
    model = onnx.load(variant.path).graph
    pairs = [node.name for node in model.node if node.name.endswith("attention/context/output/dequantize")]
    with parsed(variant.path) as (editor, network, trt):
        editor.skip_casts_of_rounding()
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
        editor.skip_casts_of_rounding()
        assert editor.skip_repeated_rounding() == 0
