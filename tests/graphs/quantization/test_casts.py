"""Which operators compute in 16 bits, and what overflows when they do."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import workbench as wb
from tests.graphs.drawn import TINY, draw, scaled
from tests.graphs.onnx_file import File, element_types, error, logits, tensors
from workbench.graphs.quantization.emulation import emulated

HALF = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)


RECIPES = [
    *(wb.Recipe(precision) for precision in ("fp16", "bf16", "int8", "fp8")),
    wb.Recipe("int8", scope="attention"),
    wb.Recipe("int8", scope="attention", high_precision="bf16"),
    wb.Recipe("int8", scope="everything"),
    wb.Recipe("int8", layout="cpu"),
    wb.Recipe("int8", exclude=("block01",)),
    wb.Recipe("fp8", scope="attention"),
    wb.Recipe("fp16", exclude=("block01", "block02/scores")),
    wb.Recipe("bf16", exclude=("block00/fc2", "block01/qkv", "head")),
]


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.label)
def test_every_operator_reads_and_writes_one_float_type(drawn, drawn17, pictures, shelf, recipe, opset):
    variant = wb.apply_recipe(drawn if opset == 20 else drawn17, recipe, shelf, calibration=pictures)
    onnx.checker.check_model(str(variant.path), full_check=True)
    types = element_types(variant.path)
    for node in onnx.load(variant.path).graph.node:
        if node.op_type != "Cast":
            floats = {types[name] for name in [*node.input, *node.output] if name and types[name] in FLOATS}
            assert len(floats) <= 1, (node.name, node.op_type, floats)
    assert types["images"] == types["logits"] == TensorProto.FLOAT


@pytest.mark.parametrize("precision", HALF)
def test_products_are_in_the_type_and_layernorm_is_in_float32(drawn, shelf, precision):
    path = wb.apply_recipe(drawn, wb.Recipe(precision), shelf).path
    types, kinds = element_types(path), {}
    for node in onnx.load(path).graph.node:
        kinds.setdefault(node.op_type, set()).add(types[node.input[0]])
    assert kinds["LayerNormalization"] == kinds["ReduceMean"] == {TensorProto.FLOAT}
    for kind in ("MatMul", "Conv", "Softmax", "Gelu", "Add"):
        assert kinds[kind] == {HALF[precision]}, kind


def test_the_opset_is_raised_only_where_the_type_needs_it(drawn, drawn17, pictures, shelf):
    def opset(graph, precision):
        return wb.apply_recipe(graph, wb.Recipe(precision), shelf, calibration=pictures).opset

    # onnx.ai: Conv takes bfloat16 from 22 on, QuantizeLinear FP8 from 19; TensorRT 8.6 reads 17.
    assert [opset(drawn17, p) for p in ("fp16", "int8", "fp8", "bf16")] == [17, 17, 19, 22]
    assert [opset(drawn, p) for p in ("fp16", "int8", "fp8", "bf16")] == [20, 20, 20, 22]


def test_at_opset_17_a_half_pair_stands_between_casts(drawn17, pictures, shelf):
    makers = File(wb.apply_recipe(drawn17, wb.Recipe("int8"), shelf, calibration=pictures).path).makers
    for tensor in makers["block00/mlp/fc2:out"].input:
        assert makers[tensor].op_type == "Cast"
        assert makers[makers[tensor].input[0]].op_type == "DequantizeLinear"


def computes_in(path):
    """Node name -> the float type that it computes in."""
    types = element_types(path)
    kinds = {
        node.name: {types[tensor] for tensor in node.input if tensor and types[tensor] in FLOATS}
        for node in onnx.load(path).graph.node
    }
    return {name: kind.pop() for name, kind in kinds.items() if len(kind) == 1}


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize(
    ("name", "high"),
    [
        ("block01/fc2", {"block01/mlp/fc2", "block01/mlp/fc2/bias"}),
        ("block00/qkv", {"block00/attention/qkv", "block00/attention/qkv/bias"}),
        # A softmax is excluded with its scores, which may be too large for 16 bits.
        ("block02/scores", {f"block02/attention/{part}" for part in ("scores", "scale", "softmax", "context")}),
        ("block01/attention/softmax", {"block01/attention/softmax"}),
        ("block01/attention/scores", {"block01/attention/scores"}),  # it reads two tensors that need a cast
    ],
)
def test_what_is_excluded_computes_in_float32_and_nothing_else_does(drawn, shelf, precision, name, high):
    plain = computes_in(wb.apply_recipe(drawn, wb.Recipe(precision), shelf).path)
    variant = wb.apply_recipe(drawn, wb.Recipe(precision, exclude=(name,)), shelf)
    onnx.checker.check_model(str(variant.path), full_check=True)  # every name is given once
    found = computes_in(variant.path)
    changed = {each for each in plain.keys() & found.keys() if found[each] != plain[each]}  # casts come and go
    assert changed == high
    assert {found[each] for each in high} == {TensorProto.FLOAT}


def test_an_excluded_block_computes_in_float32_from_its_first_node_to_its_last(drawn, shelf):
    kinds = computes_in(wb.apply_recipe(drawn, wb.Recipe("fp16", exclude=("block01",)), shelf).path)
    inside = {n for n in kinds if n.startswith("block01/") and not n.endswith(("/fp16", "/fp32"))}  # no casts
    assert {kinds[name] for name in inside} == {TensorProto.FLOAT}
    assert kinds["block00/mlp/fc2"] == kinds["block02/mlp/fc2"] == TensorProto.FLOAT16


def in_fp16(graph, images, folder, exclude=()):
    """The logits of a graph in FP16, as a GPU would compute them."""
    return logits(emulated(wb.apply_recipe(graph, wb.Recipe("fp16", exclude=exclude), folder), folder).path, images)


def test_excluding_what_overflows_mends_it(tmp_path, pictures):
    graph = draw(tmp_path, edit=scaled({"block01/mlp/fc1/kernel": 3e4, "block01/mlp/fc2/kernel": 1 / 3e4}))
    assert not np.isfinite(in_fp16(graph, pictures, tmp_path)).all()
    mended = in_fp16(graph, pictures, tmp_path, exclude=("block01",))
    assert error(mended, logits(graph.path, pictures)) < 5e-3


def test_layernorm_survives_inputs_whose_squares_overflow(tmp_path, pictures):
    graph = draw(tmp_path, edit=scaled({"embedding/position/value": 3000}))
    (seen,) = tensors(graph.path, pictures, "embedding/output")
    with np.errstate(over="ignore"):
        assert np.isinf(np.square(seen.astype(np.float16))).any()  # what an FP16 LayerNorm would sum up
    assert error(in_fp16(graph, pictures, tmp_path), logits(graph.path, pictures)) < 5e-3


def test_scores_beyond_fp16_survive_because_the_scale_comes_first(tmp_path, pictures):
    columns = np.where(np.arange(3 * TINY.width) < 2 * TINY.width, 64, 1)  # queries and keys
    graph = draw(tmp_path, edit=scaled({"block00/attention/qkv/kernel": columns}))
    (scores,) = tensors(graph.path, pictures, "block00/attention/scores:out")
    assert 65504 < np.abs(scores).max() < 4 * 65504  # the scale of heads of 16 is 1/4
    assert error(in_fp16(graph, pictures, tmp_path), logits(graph.path, pictures)) < 5e-2  # such scores are one-hot


@pytest.mark.parametrize("recipe", [wb.Recipe("fp16"), wb.Recipe("int8")], ids=lambda recipe: recipe.label)
def test_a_layer_with_weights_beyond_fp16_stays_float32_and_is_noted(tmp_path, pictures, recipe):
    def enlarge(weights):
        weights["block01/mlp/fc1/kernel"] *= np.float32(1e-5)
        weights["block01/mlp/fc1/kernel"][3, 4] = 70_000
        weights["block01/norm2/scale"][3] = weights["block01/norm2/shift"][3] = 1e-6

    graph = draw(tmp_path, edit=enlarge)
    variant = wb.apply_recipe(graph, recipe, tmp_path, calibration=pictures)
    assert sum("block01/mlp/fc1 stays float32" in note and "7e+04" in note for note in variant.notes) == 1
    types, nodes = element_types(variant.path), File(variant.path).nodes
    for name in ("block01/mlp/fc1", "block01/mlp/fc1/bias"):
        assert {types[tensor] for tensor in nodes[name].input} == {TensorProto.FLOAT}
    assert types[nodes["block01/mlp/fc2"].input[0]] == TensorProto.FLOAT16
    assert error(logits(emulated(variant, tmp_path).path, pictures), logits(graph.path, pictures)) < 0.05
