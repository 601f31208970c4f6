"""Tables of any ONNX model: its nodes with place and type, its blocks, nothing invented."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.graphs.drawn import TINY, draw
from workbench.errors import WorkbenchError
from workbench.graphs.analysis.inspect import inspect
from workbench.graphs.quantization.recipe import apply_recipe
from workbench.performance.cost import cost
from workbench.records import Recipe

EXPORTS = Path(__file__).parents[1] / "torch_exports"
VITS = sorted(path.stem for path in EXPORTS.glob("*.onnx") if path.stem not in ("cnn", "mlp"))
#: 17 tokens, 16 channels, 32 in the MLP: 4·17·16² + 2·17²·16 + 2·17·16·32, counted by hand.
MACS = {17: 44_064, 18: 47_232, 16: 40_960, 20: 53_760}
#: The drawn model takes the mean over tokens.
DRAWN = dataclasses.replace(TINY, classifier="gap")
LINEAR = {"qkv", "proj", "fc1", "fc2"}


def look(path):
    return inspect(path, runtimes=())


def test_a_drawn_vit_is_described_as_it_was_drawn(tmp_path):
    made = look(draw(tmp_path))
    assert list(made.blocks.block) == ["block00", "block01", "block02"]
    assert set(zip(made.blocks.heads, made.blocks.head_size, made.blocks.tokens)) == {(2, 16, 16)}
    assert made.nodes.parameters.sum() == cost(DRAWN).parameters


def test_macs_and_parameters_are_those_of_the_cost_model_in_every_block_and_role(tmp_path):
    expected = cost(DRAWN).frame()
    expected = expected[expected.macs > 0].set_index(["block", "role"])
    roles = look(draw(tmp_path)).roles
    roles["block"] = roles["block"].where(roles["block"].notna(), roles["role"])
    found = roles[roles.macs > 0].set_index(["block", "role"])
    assert dict(found.macs) == dict(expected.macs)
    inside = [key for key in expected.index if key[1] in LINEAR]
    assert dict(found.parameters[inside]) == dict(expected.parameters[inside])


def test_every_node_of_the_file_has_a_row_in_its_order(tmp_path):
    graph = draw(tmp_path)
    assert list(look(graph).nodes.name) == [node.name for node in onnx.load(graph.path).graph.node]


@pytest.mark.parametrize("name", VITS)
def test_blocks_of_torchs_exports_are_found_by_structure(name):
    made = look(EXPORTS / f"{name}.onnx")
    assert list(made.blocks.block) == ["block00", "block01"]
    assert set(made.blocks.heads) == {2}
    assert set(made.blocks.head_size) == {8}
    special = {"distilled": 18, "mean": 16, "registers": 20}
    tokens = next((count for word, count in special.items() if word in name), 17)
    assert set(made.blocks.tokens) == {tokens}
    for _, rows in made.roles.groupby("block"):
        assert set(rows.role) >= LINEAR | {"norm1", "scores", "norm2", "gelu", "residual"}
    batch = 3 if "static" in name else 1
    assert set(made.blocks.macs) == {batch * MACS[tokens]}


@pytest.mark.parametrize("name", VITS)
def test_every_node_of_an_export_has_a_role(name):
    assert look(EXPORTS / f"{name}.onnx").nodes.role.notna().all()


def test_a_role_computes_in_the_type_of_its_product(tmp_path):
    images = np.random.default_rng(0).standard_normal((4, 16, 16, 3)).astype(np.float32)
    recipe = Recipe("int8", exclude=("block01",))
    roles = look(apply_recipe(draw(tmp_path), recipe, tmp_path, images)).roles.set_index(["block", "role"]).computes
    assert roles["block00", "fc1"] == "int8"
    assert roles["block01", "fc1"] == "fp16"
    assert roles["block00", "norm1"] == "fp32"  # between two casts
    assert roles["block00", "scores"] == roles["block00", "softmax"] == "fp16"


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_what_is_no_vit_gets_no_blocks(name):
    made = look(EXPORTS / f"{name}.onnx")
    assert made.blocks.empty
    assert made.nodes.block.isna().all()
    assert made.roles.empty
    assert made.nodes.macs.sum() > 0
    assert "all in FP32" not in set(made.findings.hazard)


def test_a_file_that_is_no_onnx_model_is_refused(tmp_path):
    (tmp_path / "no.onnx").write_text("weights")
    with pytest.raises(WorkbenchError, match="cannot be read"):
        look(tmp_path / "no.onnx")
    with pytest.raises(WorkbenchError, match="There is no file"):
        look(tmp_path / "missing.onnx")


@pytest.mark.parametrize("model", [None, 3, b"vit.onnx", [], object()])
def test_what_is_no_path_is_refused(model):
    with pytest.raises(WorkbenchError, match="inspect describes"):
        look(model)


def test_one_runtime_may_be_named_alone_and_an_empty_card_is_none(tmp_path):
    assert inspect(EXPORTS / "mlp.onnx", runtimes="onnxruntime").asked == ("onnxruntime",)
    with pytest.raises(WorkbenchError, match="card"):
        inspect(EXPORTS / "mlp.onnx", card="", runtimes=())


def test_weights_that_lie_nowhere_are_named(tmp_path):
    model = onnx.load(draw(tmp_path).path)
    onnx.save(model, tmp_path / "apart.onnx", save_as_external_data=True, location="apart.data", size_threshold=0)
    assert len(look(tmp_path / "apart.onnx").blocks) == 3
    (tmp_path / "apart.data").unlink()
    with pytest.raises(WorkbenchError, match=r"(?s)cannot be read.*apart\.data"):
        look(tmp_path / "apart.onnx")


def test_a_model_of_classical_machine_learning_is_refused(tmp_path):
    import onnxruntime

    folder = Path(onnxruntime.__file__).parent / "datasets"
    with pytest.raises(WorkbenchError, match="cannot be read"):
        look(folder / "logreg_iris.onnx")


def test_an_empty_graph_is_described(tmp_path):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "one", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "one.onnx")
    made = look(tmp_path / "one.onnx")
    assert list(made.nodes.type) == ["Identity"]
    assert made.blocks.empty
    assert made.findings.empty


def test_only_a_stamped_node_has_a_line_of_python(tmp_path):
    path = draw(tmp_path).path
    model = onnx.load(path)
    model.graph.node[5].metadata_props.add(key="workbench.source", value="models/vit.py:119")
    onnx.save(model, path)
    assert dict(look(path).nodes.source.dropna()) == {5: "models/vit.py:119"}


def expanded(rows: int, batch) -> onnx.ModelProto:
    """Tokens (B, 4, 3) below ``rows`` learnt ones that torch's older exporter expands to the batch; then x @ w."""
    constants = {"learnt": np.ones((1, rows, 3), np.float32), "w": np.ones((3, 5), np.float32)}
    constants |= {
        name: np.array(n, np.int64) for name, n in {"zero": 0, "axis": [0], "as_is": [-1], "keep": -1}.items()
    }
    nodes = [
        ("Shape", ["x"], "shape", {}),
        ("Gather", ["shape", "zero"], "batch", {"axis": 0}),
        ("Unsqueeze", ["batch", "axis"], "first", {}),
        ("Concat", ["first", "as_is", "as_is"], "target", {"axis": 0}),
        ("Shape", ["target"], "rank", {}),
        ("ConstantOfShape", ["rank"], "ones", {"value": numpy_helper.from_array(np.ones(1, np.int64))}),
        ("Equal", ["target", "keep"], "kept", {}),
        ("Where", ["kept", "ones", "target"], "sizes", {}),
        ("Expand", ["learnt", "sizes"], "rows", {}),
        ("Concat", ["rows", "x"], "tokens", {"axis": 1}),
        ("MatMul", ["tokens", "w"], "y", {}),
    ]
    made = [helper.make_node(kind, reads, [out], **attributes) for kind, reads, out, attributes in nodes]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [batch, 4, 3]), ("y", None))]
    weights = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    graph = helper.make_graph(made, "expanded", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("batch", ["b", 2])
def test_tokens_that_are_expanded_to_the_batch_are_counted(rows, batch, tmp_path):
    onnx.save(expanded(rows, batch), tmp_path / "e.onnx")
    product = look(tmp_path / "e.onnx").nodes.iloc[-1]
    assert product["shape"] == f"{'?' if batch == 'b' else 2}×{rows + 4}×5"
    assert product.macs == (1 if batch == "b" else 2) * (rows + 4) * 3 * 5


def test_rows_that_hold_the_batch_are_counted_once_for_each_image(tmp_path):
    text = """<ir_version: 9, opset_import: ["": 17]>
    rows (float[b, 4, 3] x, float[3, 5] w) => (float[m, 5] y)
    <int64[2] flat = {-1, 3}> { r = Reshape(x, flat) y = MatMul(r, w) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "rows.onnx")
    product = look(tmp_path / "rows.onnx").nodes.iloc[-1]
    assert (product["shape"], product["macs"]) == ("?×5", 4 * 3 * 5)


def test_what_is_not_known_is_no_part_of_a_sum(tmp_path):
    path = draw(tmp_path).path
    model = onnx.load(path)
    gelu = next(node for node in model.graph.node if node.name == "block01/mlp/gelu")
    gelu.op_type, gelu.domain = "BiasGelu", "com.microsoft"  # no shape is known behind it
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, path)
    made = look(path)
    assert list(made.blocks.macs.isna()) == [False, True, True]
    assert made.roles.set_index(["block", "role"]).macs["block01", "fc1"] == 16 * TINY.width * TINY.mlp


def test_scales_are_no_parameters(tmp_path):
    images = np.random.default_rng(0).standard_normal((4, 16, 16, 3)).astype(np.float32)
    quantized = look(apply_recipe(draw(tmp_path), Recipe("int8"), tmp_path, images))
    assert quantized.nodes.parameters.sum() == cost(DRAWN).parameters
