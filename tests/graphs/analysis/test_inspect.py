"""Tables of any ONNX model: its nodes with place and type, its blocks, nothing invented."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.graphs.drawn import TINY, draw, retouch
from tests.graphs.onnx_file import parsed
from tests.graphs.references import EXPORTS, VITS
from workbench.errors import WorkbenchError
from workbench.graphs.analysis.inspect import inspect
from workbench.graphs.quantization.recipe import apply_recipe
from workbench.performance.cost import cost
from workbench.records import Recipe

IMAGES = np.random.default_rng(0).standard_normal((4, 16, 16, 3)).astype(np.float32)
#: 17 tokens, 16 channels, 32 in the MLP: 4·17·16² + 2·17²·16 + 2·17·16·32, counted by hand.
MACS = {17: 44_064, 18: 47_232, 16: 40_960, 20: 53_760}
#: The drawn model takes the mean over tokens.
DRAWN = dataclasses.replace(TINY, classifier="gap")
LINEAR = {"qkv", "proj", "fc1", "fc2"}


def look(path):
    return inspect(path, runtimes=())


def test_a_drawn_vit_is_described_as_it_was_drawn_and_scales_are_no_parameters(tmp_path):
    graph = draw(tmp_path)
    made = look(graph)
    assert list(made.blocks.block) == ["block00", "block01", "block02"]
    assert set(zip(made.blocks.heads, made.blocks.head_size, made.blocks.tokens)) == {(2, 16, 16)}
    assert list(made.nodes.name) == [node.name for node in onnx.load(graph.path).graph.node]
    quantized = look(apply_recipe(graph, Recipe("int8"), tmp_path, IMAGES))
    assert made.nodes.parameters.sum() == quantized.nodes.parameters.sum() == cost(DRAWN).parameters


def test_macs_and_parameters_are_those_of_the_cost_model_in_every_block_and_role(tmp_path):
    expected = cost(DRAWN).frame()
    expected = expected[expected.macs > 0].set_index(["block", "role"])
    roles = look(draw(tmp_path)).roles
    roles["block"] = roles["block"].where(roles["block"].notna(), roles["role"])
    found = roles[roles.macs > 0].set_index(["block", "role"])
    assert dict(found.macs) == dict(expected.macs)
    inside = [key for key in expected.index if key[1] in LINEAR]
    assert dict(found.parameters[inside]) == dict(expected.parameters[inside])


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
    assert made.nodes.role.notna().all()


def test_a_role_computes_in_the_type_of_its_product(tmp_path):
    recipe = Recipe("int8", exclude=("block01",))
    roles = look(apply_recipe(draw(tmp_path), recipe, tmp_path, IMAGES)).roles.set_index(["block", "role"]).computes
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


TEXT = Path(__file__)
CLASSICAL = Path(onnxruntime.__file__).parent / "datasets" / "logreg_iris.onnx"  # of classical machine learning


@pytest.mark.parametrize(
    ("model", "card", "words"),
    [
        (TEXT, None, "cannot be read"),
        (CLASSICAL, None, "cannot be read"),
        (EXPORTS / "missing.onnx", None, "There is no file"),
        *((model, None, "inspect describes") for model in (None, 3, b"vit.onnx", [], object())),
        (EXPORTS / "mlp.onnx", "", "card"),
        (EXPORTS / "mlp.onnx", "RTX 9999", "RTX 9999"),
    ],
)
def test_what_is_no_model_or_no_card_is_refused(model, card, words):
    with pytest.raises(WorkbenchError, match=words):
        inspect(model, card=card, runtimes=())


def test_one_runtime_may_be_named_alone():
    assert inspect(EXPORTS / "mlp.onnx", runtimes="onnxruntime").asked == ("onnxruntime",)


def test_weights_that_lie_nowhere_are_named(tmp_path):
    model = onnx.load(draw(tmp_path).path)
    onnx.save(model, tmp_path / "apart.onnx", save_as_external_data=True, location="apart.data", size_threshold=0)
    assert len(look(tmp_path / "apart.onnx").blocks) == 3
    (tmp_path / "apart.data").unlink()
    with pytest.raises(WorkbenchError, match=r"(?s)cannot be read.*apart\.data"):
        look(tmp_path / "apart.onnx")


def test_an_empty_graph_is_described(tmp_path):
    onnx.save(parsed("one (float[1] x) => (float[1] y) { y = Identity(x) }"), tmp_path / "one.onnx")
    made = look(tmp_path / "one.onnx")
    assert list(made.nodes.type) == ["Identity"]
    assert made.blocks.empty
    assert made.findings.empty


def test_only_a_stamped_node_has_a_line_of_python(tmp_path):
    def stamp(graph, nodes):
        graph.node[5].metadata_props.add(key="workbench.source", value="models/vit.py:119")

    assert dict(look(retouch(draw(tmp_path), tmp_path, stamp)).nodes.source.dropna()) == {5: "models/vit.py:119"}


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("batch", ["b", 2])
def test_tokens_that_are_expanded_to_the_batch_are_counted(rows, batch, tmp_path):
    """As torch's older exporter expands learnt tokens to the batch."""
    text = f"""expanded (float[{batch}, 4, 3] x, float[1, {rows}, 3] learnt, float[3, 5] w) => (y)
    <int64 zero = {{0}}, int64[1] axis = {{0}}, int64[1] as_is = {{-1}}, int64 keep = {{-1}}> {{
        shape = Shape(x)  batch = Gather<axis = 0>(shape, zero)  first = Unsqueeze(batch, axis)
        target = Concat<axis = 0>(first, as_is, as_is)  rank = Shape(target)
        ones = ConstantOfShape<value = int64[1] {{1}}>(rank)  kept = Equal(target, keep)
        sizes = Where(kept, ones, target)  rows = Expand(learnt, sizes)
        tokens = Concat<axis = 1>(rows, x)  y = MatMul(tokens, w) }}"""
    onnx.save(parsed(text, 17), tmp_path / "e.onnx")
    product = look(tmp_path / "e.onnx").nodes.iloc[-1]
    assert product["shape"] == f"{'?' if batch == 'b' else 2}×{rows + 4}×5"
    assert product.macs == (1 if batch == "b" else 2) * (rows + 4) * 3 * 5


def test_rows_that_hold_the_batch_are_counted_once_for_each_image(tmp_path):
    text = """rows (float[b, 4, 3] x, float[3, 5] w) => (float[m, 5] y)
    <int64[2] flat = {-1, 3}> { r = Reshape(x, flat) y = MatMul(r, w) }"""
    onnx.save(parsed(text, 17), tmp_path / "rows.onnx")
    product = look(tmp_path / "rows.onnx").nodes.iloc[-1]
    assert (product["shape"], product["macs"]) == ("?×5", 4 * 3 * 5)


def test_what_is_not_known_is_no_part_of_a_sum(tmp_path):
    def change(graph, nodes):
        gelu = nodes["block01/mlp/gelu"]
        gelu.op_type, gelu.domain = "BiasGelu", "com.microsoft"  # no shape is known behind it

    made = look(retouch(draw(tmp_path), tmp_path, change, domain="com.microsoft"))
    assert list(made.blocks.macs.isna()) == [False, True, True]
    assert made.roles.set_index(["block", "role"]).macs["block01", "fc1"] == 16 * TINY.width * TINY.mlp


def test_a_gelu_in_small_operators_is_described_in_fp16_too(drawn17, shelf):
    variant = apply_recipe(drawn17, Recipe("fp16"), shelf)
    found = inspect(variant, runtimes=()).findings
    assert found[found.hazard == "GELU in pieces"]["where"].tolist() == [f"block{i:02d}/gelu" for i in range(3)]
