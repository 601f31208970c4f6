"""Every hazard is provoked, and gone once its own mitigation was followed."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.backends import vits
from tests.graphs import drawn
from tests.graphs.drawn import TINY, draw
from tests.graphs.onnx_file import parsed
from tests.graphs.references import EXPORTS
from workbench.graphs.analysis import findings
from workbench.graphs.analysis.findings.finding import SEVERITIES
from workbench.graphs.analysis.inspect import inspect
from workbench.graphs.import_ import import_onnx
from workbench.graphs.quantization.recipe import apply_recipe
from workbench.records import Recipe

IMAGES = np.random.default_rng(0).standard_normal((4, 16, 16, 3)).astype(np.float32)
ODD_HEADS = dataclasses.replace(TINY, width=40)  # two heads of 20 channels


def recipe(folder, spec=TINY, edit=None, opset=20, **settings):
    """A variant of a small ViT."""
    return apply_recipe(draw(folder, spec, opset, edit=edit), Recipe(**settings), folder / "ws", calibration=IMAGES)


def retouch(folder, change, model=None):
    """A file in which ``change`` rewired the nodes, given by name."""
    return drawn.retouch(model or draw(folder), folder, change).path


def insert(graph, before, *nodes):
    """Put nodes in front of another one."""
    place = list(graph.node).index(before)
    for offset, node in enumerate(nodes):
        graph.node.insert(place + offset, node)


def add_weights(graph, **values):
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in values.items())


def cast(name, tensor, to):
    return helper.make_node("Cast", [tensor], [f"{name}:out"], name=name, to=to)


# ---- what is broken, by hand -------------------------------------------------------------------------------------


def overflowing(weights):
    weights["block01/mlp/fc1/kernel"][0, 0] = 1e5


def infinite(weights):
    weights["block01/mlp/fc1/kernel"][0, 0] = np.inf


def product_in_float32(graph, nodes):
    node = nodes["block01/attention/scores"]
    up = [cast(f"up{i}", name, TensorProto.FLOAT) for i, name in enumerate(node.input)]
    down = cast("down", "wide", TensorProto.FLOAT16)
    down.output[0] = node.output[0]
    node.input[:], node.output[:] = [n.output[0] for n in up], ["wide"]
    insert(graph, node, *up)
    graph.node.insert(list(graph.node).index(node) + 1, down)


def cast_there_and_back(graph, nodes):
    node = nodes["block01/mlp/gelu"]
    there = cast("there", node.input[0], TensorProto.FLOAT16)
    back = cast("back", "there:out", TensorProto.FLOAT)
    node.input[0] = "back:out"
    insert(graph, node, there, back)


def removed_casts(graph, nodes):
    cast_there_and_back(graph, nodes)
    nodes["block01/mlp/gelu"].input[0] = next(n for n in graph.node if n.name == "there").input[0]
    for node in [n for n in graph.node if n.name in ("there", "back")]:
        graph.node.remove(node)


def cast_twice(graph, nodes, shared=False):
    stream = nodes["block00/residual1"].output[0]
    for number, name in enumerate(("block00/norm2", "block00/residual2")):
        number = 0 if shared else number
        reader = nodes[name]
        reader.input[list(reader.input).index(stream)] = f"wide{number}:out"
        if not (shared and name == "block00/residual2"):
            narrow = cast(f"narrow{number}", stream, TensorProto.FLOAT16)
            insert(
                graph, nodes["block00/norm2"], narrow, cast(f"wide{number}", narrow.output[0], TensorProto.FLOAT)
            )


def narrow_weight(graph, nodes):
    weight = next(w for w in graph.initializer if w.name == "block02/mlp/fc1/kernel")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), weight.name))
    wide = cast("widen", weight.name, TensorProto.FLOAT)
    nodes["block02/mlp/fc1"].input[1] = wide.output[0]
    insert(graph, nodes["block02/mlp/fc1"], wide)


def capped_scores(graph, nodes):
    node = nodes["block01/attention/softmax"]
    cap = helper.make_node("Tanh", [node.input[0]], ["cap:out"], name="block01/attention/scale/cap")
    node.input[0] = "cap:out"
    insert(graph, node, cap)


def shown_probabilities(graph, nodes):
    name = nodes["block01/attention/softmax"].output[0]
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT16, None))


def nan_guard(graph, nodes):
    """What torch puts behind the softmax of a scaled_dot_product_attention with a mask."""
    softmax, context = nodes["block01/attention/softmax"], nodes["block01/attention/context"]
    add_weights(graph, nought=np.float32(0))
    asked = helper.make_node("IsNaN", [softmax.output[0]], ["isnan:out"], name="isnan")
    chosen = helper.make_node("Where", ["isnan:out", "nought", softmax.output[0]], ["where:out"], name="where")
    context.input[0] = "where:out"
    insert(graph, context, asked, chosen)


def float_weight(graph, nodes):
    product = nodes["block00/mlp/fc1"]
    add_weights(graph, float_weight=np.ones((TINY.width, TINY.mlp), np.float16))
    product.input[1] = "float_weight"


def float_activation(graph, nodes):
    pair = next(n for n in graph.node if n.output[0] == nodes["block00/mlp/fc1"].input[0])
    quantize = next(n for n in graph.node if n.output[0] == pair.input[0])
    nodes["block00/mlp/fc1"].input[0] = quantize.input[0]


def pair_on_a_transpose(graph, nodes):
    add_weights(graph, s=np.float32(0.1), z=np.int8(0))
    node = nodes["head/bias"]
    quantize = helper.make_node("QuantizeLinear", [node.input[0], "s", "z"], ["q"], name="head/quantize")
    back = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="head/dequantize")
    node.input[0] = "d"
    insert(graph, node, quantize, back)


def bias_in_32_bits(graph, nodes):
    add_weights(graph, scale=np.float32(1e-3), whole=np.arange(TINY.mlp, dtype=np.int32))
    node = nodes["block00/mlp/fc1/bias"]
    wide = helper.make_node("DequantizeLinear", ["whole", "scale"], ["b"], name="block00/mlp/fc1/bias/dequantize")
    node.input[1] = "b"
    insert(graph, node, wide)


# ---- models with a hazard and after its mitigation, as functions of a folder -------------------------------------


def exported(name):
    return lambda at: EXPORTS / f"{name}.onnx"


def imported(name):
    return lambda at: import_onnx(EXPORTS / f"{name}.onnx", at / "ws")


def variant(precision="fp32", spec=TINY, edit=None, **settings):
    return lambda at: recipe(at, spec, edit, precision=precision, **settings)


def drawing(edit=None, opset=20, **changes):
    return lambda at: draw(at, dataclasses.replace(TINY, **changes), opset, edit=edit)


def changed(change, precision="fp32"):
    return lambda at: retouch(at, change, recipe(at, precision=precision))


def gelu_by_multiplication(folder):
    """x Φ(x) with √½ as a factor, which ONNX Runtime does not recognise."""
    proto = onnx.load(EXPORTS / "fused_legacy.onnx")
    erf = next(n for n in proto.graph.node if n.op_type == "Erf")
    node = next(n for n in proto.graph.node if n.output[0] == erf.input[0])
    node.op_type, node.input[1] = "Mul", "half_root"
    add_weights(proto.graph, half_root=np.float32(0.5**0.5))
    onnx.save(proto, folder / "factor.onnx")
    return folder / "factor.onnx"


def one_cast(graph, nodes):
    cast_twice(graph, nodes, shared=True)


FP16, INT8 = variant("fp16"), variant("int8")
IN_PIECES, SHAPES = "separate_mean_legacy", "fused_dynamo"
#: Hazard -> where it is found, a model that has it, and that model after its mitigation; both made in a folder.
CASES = {
    "weight overflows FP16": ("block01/fc1", drawing(overflowing), variant("bf16", edit=overflowing)),
    "weight is not finite": ("block01/fc1", drawing(infinite), drawing()),
    "FP32 island": ("block01/scores", changed(product_in_float32, "fp16"), FP16),
    "all in FP32": ("graph", drawing(), FP16),
    "attention in FP32": (
        "block01/scores",
        variant("int8", high_precision="fp32"),
        variant("int8", high_precision="fp16"),
    ),
    "cast there and back": ("block01/gelu", changed(cast_there_and_back), changed(removed_casts)),
    "the same cast twice": ("narrow1", changed(cast_twice), changed(one_cast)),
    "weight cast at run time": ("block02/fc1", changed(narrow_weight), variant()),
    "GELU in pieces": ("block02/gelu", drawing(opset=17), drawing(opset=20)),
    "LayerNorm in pieces": ("block01/norm2", exported(IN_PIECES), imported(IN_PIECES)),
    "shape computed at run time": ("block00/split", exported(SHAPES), imported(SHAPES)),
    "attention will not fuse": (
        "block01/scores",
        variant("int8", ODD_HEADS, scope="attention"),
        variant("int8", ODD_HEADS, scope="linear"),
    ),
    "no INT8 kernel for this attention": ("graph", variant("fp16", ODD_HEADS), FP16),
    "size off the tensor cores' tiles": ("graph", drawing(image_size=20), drawing(image_size=32)),  # 25, 64 tokens
    "Q/DQ in front of a sensitive operator": (
        "block01/softmax",
        variant("int8", scope="everything"),
        variant("int8", scope="linear"),
    ),
    "Q/DQ on the activation only": ("block00/fc1", changed(float_weight, "int8"), INT8),
    "Q/DQ on the weight only": ("block00/fc1", changed(float_activation, "int8"), INT8),
    "Q/DQ without a product": ("head", changed(pair_on_a_transpose), variant()),
    "zero points other than 0": ("graph", variant("int8", layout="cpu"), variant("int8", layout="tensorrt")),
    "bias in 32 bits": ("block00/fc1", changed(bias_in_32_bits), INT8),
}


@pytest.mark.parametrize("hazard", CASES)
def test_a_hazard_is_found_and_its_own_mitigation_mends_it(hazard, tmp_path):
    where, broken, mended = CASES[hazard]
    before, after = (inspect(make(tmp_path), runtimes=()).findings for make in (broken, mended))
    assert where in set(before[before.hazard == hazard]["where"])
    assert hazard not in set(after.hazard)
    assert set(before.severity) <= set(SEVERITIES)
    assert (before[["mitigation", "help"]].map(len) > 15).all(axis=None)


def hazards():
    """Every hazard that a detector names in its source."""
    position = {"by_place": 2, "Finding": 0}
    for module in Path(findings.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            name = getattr(getattr(node, "func", None), "id", None)
            if name in position and isinstance(hazard := node.args[position[name]], ast.Constant):
                yield hazard.value


def test_every_hazard_has_its_case():
    others = {"type without tensor cores"}  # mended by another card, below
    assert set(hazards()) == set(CASES) | others


@pytest.mark.parametrize("name", ["distilled_legacy", "library_legacy"])
def test_an_import_mends_what_torch_leaves_in_pieces(name, tmp_path):
    pieces = {"LayerNorm in pieces", "shape computed at run time"}
    before = inspect(exported(name)(tmp_path), runtimes=()).findings
    after = inspect(imported(name)(tmp_path), runtimes=()).findings
    assert pieces & set(before.hazard)
    assert not pieces & set(after.hazard)


def test_the_exact_gelu_counts_as_in_pieces_only_where_onnx_runtime_does_not_fuse_it(tmp_path):
    whole, other = EXPORTS / "fused_legacy.onnx", gelu_by_multiplication(tmp_path)
    mended = import_onnx(other, tmp_path / "ws")
    found = [inspect(model, runtimes=()).findings for model in (whole, other, mended)]
    assert [set(f[f.hazard == "GELU in pieces"]["where"]) for f in found] == [set(), {"block00/gelu"}, set()]


def test_a_clean_variant_has_no_findings(tmp_path):
    for settings in ({"precision": "fp16"}, {"precision": "int8"}, {"precision": "int8", "scope": "attention"}):
        assert inspect(recipe(tmp_path, **settings), runtimes=()).findings.empty


@pytest.mark.parametrize("precision", ["w8", "w4", "wfp4"])
def test_weights_alone_in_few_bits_are_one_note_for_the_whole_model(tmp_path, precision):
    (row,) = inspect(recipe(tmp_path, precision=precision), runtimes=()).findings.itertuples()
    assert (row.hazard, row.severity, row.where) == ("Q/DQ on the weight only", "note", "graph")
    assert len(row.nodes) == 4 * TINY.depth


def test_a_layer_beyond_fp16_is_an_island_that_only_bf16_mends(tmp_path):
    island = inspect(recipe(tmp_path, edit=overflowing, precision="fp16"), runtimes=()).findings
    (row,) = island[island.hazard == "FP32 island"].itertuples()
    assert (row.where, row.severity) == ("block01/fc1", "note")
    assert "bf16" in row.mitigation


@pytest.mark.parametrize(
    ("change", "reason"),
    [(capped_scores, "Tanh stands between"), (shown_probabilities, "read elsewhere")],
)
def test_what_stands_in_the_way_of_fused_attention_is_named(change, reason, tmp_path):
    found = inspect(retouch(tmp_path, change, recipe(tmp_path, precision="fp16")), runtimes=()).findings
    (row,) = found[found.hazard == "attention will not fuse"].itertuples()
    assert row.where == "block01/scores"
    assert reason in row.help


def test_a_guard_against_nan_is_named_and_an_import_takes_it_away(tmp_path):
    guarded = retouch(tmp_path, nan_guard)
    hazards = [inspect(model, runtimes=()).findings for model in (guarded, import_onnx(guarded, tmp_path / "ws"))]
    before, after = (found[found.hazard == "attention will not fuse"] for found in hazards)
    (row,) = before.itertuples()
    assert "guard against NaN" in row.help
    assert "import_onnx" in row.mitigation
    assert after.empty


@pytest.mark.parametrize(
    ("sites", "reason"),
    [
        (("query", "key", "value"), "quantize both or none"),
        (("query", "key", "value", "softmax"), "after the second product"),
    ],
)
def test_partly_quantized_attention_is_found_where_it_stands(sites, reason, tmp_path):
    half = vits.draw(tmp_path, [vits.Block(low="int8", sites=sites), vits.Block()])
    found = inspect(half, runtimes=()).findings
    (row,) = found[found.hazard == "attention will not fuse"].itertuples()
    assert row.where == "block00/scores"
    assert reason in row.help


@pytest.mark.parametrize("opset", [17, 20])
def test_int8_attention_is_recognised_at_both_opsets(opset, tmp_path):
    made = inspect(recipe(tmp_path, opset=opset, precision="int8", scope="attention"), runtimes=())
    assert list(made.blocks.attention) == ["int8"] * 3
    assert "attention will not fuse" not in set(made.findings.hazard)


def test_a_card_without_tensor_cores_for_a_type_is_told_before_a_build(tmp_path):
    variant = recipe(tmp_path, precision="fp8")
    hazards = {card: set(inspect(variant, card=card, runtimes=()).findings.hazard) for card in ("A10", "L4")}
    assert "type without tensor cores" in hazards["A10"]
    assert "type without tensor cores" not in hazards["L4"]


def test_the_limits_of_turing_count_where_a_t4_is_named(tmp_path):
    spec = dataclasses.replace(TINY, image_size=80, width=128)  # 400 tokens, heads of 64
    graph = draw(tmp_path, spec)
    per_card = {card: set(inspect(graph, card=card, runtimes=()).findings.hazard) for card in ("T4", "A10")}
    assert per_card["T4"] - per_card["A10"] == {"no INT8 kernel for this attention"}


RESIDUAL = """
    q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  f = DequantizeLinear(w, s, z)  c = Conv(d, f)
    r = QuantizeLinear(c, s, z)  e = DequantizeLinear(r, s, z)  y = Add(d, e)"""
PRODUCT = "q = QuantizeLinear(x, s, z) p = QLinearMatMul(q, s, z, w, s, z, s, z) y = DequantizeLinear(p, s, z)"


@pytest.mark.parametrize(("nodes", "weight"), [(RESIDUAL, (3, 3, 1, 1)), (PRODUCT, (4, 4))])
def test_what_hurts_a_transformer_is_no_finding_in_a_quantized_cnn(nodes, weight, tmp_path):
    constants = {"s": np.float32(0.1), "z": np.int8(0), "w": np.ones(weight, np.int8)}
    cnn = parsed(f"cnn (float[n, 3, 4, 4] x) => (float[n, 3, 4, 4] y) {{ {nodes} }}", 17, **constants)
    onnx.save(cnn, tmp_path / "cnn.onnx")
    assert inspect(tmp_path / "cnn.onnx", runtimes=()).findings.empty


# ---- what the runtimes themselves say ----------------------------------------------------------------------------


def test_tensorrts_parser_names_the_operator_it_refuses_and_the_recipe_that_mends_it(tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is missing: pip install tensorrt-rtx")
    made = inspect(recipe(tmp_path, precision="int8-dynamic").path, runtimes=("tensorrt-rtx",))
    refused = made.findings[made.findings.hazard == "refused by tensorrt-rtx"]
    assert made.asked == ("tensorrt-rtx",)
    assert {"block00/qkv", "block02/fc2"} <= set(refused["where"])
    assert all("layout='tensorrt'" in text for text in refused.mitigation)
    mended = inspect(recipe(tmp_path, precision="int8", layout="tensorrt").path)
    assert not mended.findings.hazard.str.startswith("refused").any()


def test_onnx_runtimes_refusal_names_the_node(tmp_path):
    made = inspect(recipe(tmp_path, precision="bf16").path, runtimes=("onnxruntime",))
    (row,) = made.findings[made.findings.hazard == "refused by onnxruntime"].itertuples()
    assert row.severity == "error"
    assert row.where == "embedding"
    assert made.findings.iloc[0].hazard == "refused by onnxruntime"  # errors come first


def test_a_variant_is_shown_to_the_runtimes_it_is_meant_for(tmp_path):
    made = inspect(recipe(tmp_path, precision="int8-dynamic"))
    assert made.asked == ("onnxruntime",)
    assert made.findings.empty
