"""ViTs in the spellings of the field through the pipeline: import, 16 bits, 8 bits, and what is said of them."""

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.graphs import spellings
from tests.graphs.onnx_file import element_types
from workbench.graphs import model_file
from workbench.graphs.analysis.inspect import inspect
from workbench.graphs.canonical import clean
from workbench.graphs.import_ import import_onnx
from workbench.graphs.quantization.recipe import apply_recipe
from workbench.performance.cost import cost
from workbench.performance.expected import expected
from workbench.performance.predicted_fusion import predict_fusion
from workbench.places import place_of
from workbench.records import Recipe

#: Multiply-accumulates of a block of 16 tokens, by hand: 4 S D² + 2 S² D + 2 S D M; windows of 4 have 2 · 4 S D.
PROJECTIONS, ATTENTION, MLP = 4 * 16 * 8 * 8, 2 * 16 * 16 * 8, 2 * 16 * 8 * 16
BLOCK_MACS = {"windows": PROJECTIONS + ATTENTION // 4 + MLP, "parallel": PROJECTIONS + ATTENTION + MLP}
PATCH_MACS, HEAD_MACS = 16 * 48 * 8, 8 * 5


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    folder, graphs = tmp_path_factory.mktemp("spellings"), {}

    def get(name):
        if name not in graphs:
            path = folder / f"{name}.onnx"
            onnx.save(spellings.ALL[name](), path)
            graphs[name] = import_onnx(path, folder / "workspace"), folder / "workspace"
        return graphs[name]

    return get


@pytest.mark.parametrize("name", spellings.ALL)
def test_fp16_leaves_no_product_in_float32(name, imported):
    graph, workspace = imported(name)
    assert graph.parity.max_abs_error < 1e-5
    variant = apply_recipe(graph, Recipe("fp16"), workspace)
    types = element_types(variant.path)
    nodes = onnx.load(variant.path).graph.node
    kinds = {types[node.output[0]] for node in nodes if node.op_type in ("MatMul", "Conv", "Softmax", "Gelu")}
    assert kinds == {ir.DataType.FLOAT16}
    assert not any("float32" in note for note in variant.notes)


def test_int8_reaches_the_linear_layers_of_an_attention_pool_and_names_convolutions_that_stay(imported):
    x = np.random.default_rng(0).standard_normal((4, 16, 16, 3), dtype=np.float32)
    graph, workspace = imported("attention_pool")
    variant = apply_recipe(graph, Recipe("int8", layout="cpu"), workspace, calibration=x)
    nodes = onnx.load(variant.path).graph.node
    quantized = {node.input[0] for node in nodes if node.op_type == "DequantizeLinear"}
    pool = [node.name for node in nodes if node.op_type == "MatMul" and node.name.startswith("pool/attention/qkv")]
    assert len(pool) == 2
    assert sum("pool/" in name for name in quantized) >= 5  # keys, values, the projection and the MLP
    graph, workspace = imported("convolutions_between")
    variant = apply_recipe(graph, Recipe("int8", layout="cpu"), workspace, calibration=x)
    assert any("2 of 12 products with weights are no MatMul (Conv)" in note for note in variant.notes), (
        variant.notes
    )


def test_an_import_says_what_a_spec_leaves_out_and_what_stands_outside_the_blocks(imported):
    rotary, parallel = imported("rotary")[0], imported("parallel")[0]
    assert rotary.spec is not None
    assert rotary.notes[-1] == "The ModelSpec leaves out: rotary position embeddings."
    assert parallel.notes[-1] == "The ModelSpec leaves out: that attention and MLP are computed side by side."
    assert any(note.startswith("2 of 3 attentions stand in blocks") for note in imported("attention_pool")[0].notes)
    graph = imported("convolutions_between")[0]
    assert graph.spec is None
    assert any("2 of 16 products have no place" in note for note in graph.notes), graph.notes


@pytest.mark.parametrize("name", BLOCK_MACS)
def test_the_cost_of_a_graph_is_that_of_its_blocks_with_a_spec_or_without(name, imported):
    graph, _ = imported(name)
    counted = cost(graph, batch=3)
    assert counted.total_macs == 3 * (2 * BLOCK_MACS[name] + PATCH_MACS + HEAD_MACS)
    frame = counted.frame()
    assert frame[frame.block == "block01"].macs.sum() == 3 * BLOCK_MACS[name]
    assert (counted.image_size, counted.classes) == (16, 5)


def test_speed_and_fusion_are_estimated_without_a_spec(imported):
    graph, _ = imported("windows")
    assert graph.spec is None
    assert expected(graph, "T4", "fp16", batch=32).limit_s > 0
    rows = predict_fusion(graph, Recipe("fp16"), "T4")
    assert rows.block.tolist() == ["block00", "block01"]
    assert set(rows.reason) == {"no kernel for heads of 8 channels or fewer"}
    assert predict_fusion(inspect(graph, runtimes=()), Recipe("fp16"), "T4").equals(rows)
    pool = predict_fusion(imported("attention_pool")[0], Recipe("fp16"), "T4")
    assert pool.block.tolist() == ["block00", "block01", "pool"]


def test_shapes_that_an_open_batch_leaves_to_run_time_are_folded(tmp_path):
    onnx.save(spellings.shapes_at_run_time(), tmp_path / "model.onnx")
    model, places = clean.clean(model_file.load(tmp_path / "model.onnx"))
    assert not any(node.op_type == "Shape" for node in model.graph)
    nodes = Counter(place_of(path).block for path in places.values())
    assert nodes["block00"] == nodes["block01"] == 23  # 22 and a Gelu, as every plain block
