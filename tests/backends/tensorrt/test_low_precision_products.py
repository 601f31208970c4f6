"""What TensorRT for RTX makes of types below eight bits and of blocks: read from its list of layers."""

from pathlib import Path

import pytest

import workbench as wb
from tests.graphs.drawn import TINY, draw
from workbench.backends.tensorrt.layers import layers_of
from workbench.errors import WorkbenchError

SHIPPED = Path(__file__).parents[3] / "data" / "checkpoints" / "shapes-vit.npz"

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is missing: pip install tensorrt-rtx")


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    from workbench.models.vit import init

    return wb.export_onnx(TINY, init(TINY), tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def pictures():
    return wb.images("shapes", count=8, split="calibration", size=TINY.image_size).x


def build(graph, recipe, folder, pictures, card):
    variant = wb.apply_recipe(graph, recipe, folder, calibration=pictures)
    return wb.build_engine(variant, "tensorrt-rtx", folder, card=card)


@pytest.mark.parametrize(
    ("recipe", "card", "linear"),
    [
        (wb.Recipe("nvfp4"), "RTX 5090", ["fp4"] * 3),
        (wb.Recipe("nvfp4", exclude=("block01", "block02/fc2")), "SM120", ["fp4", "fp16", "fp16 fp4"]),
        (wb.Recipe("nvfp4", calibration=wb.Calibration(method="dynamic")), "SM120", ["fp4"] * 3),
        (wb.Recipe("nvfp4", high_precision="bf16"), "SM120", ["fp4"] * 3),
        (wb.Recipe("mxfp8"), "SM120", ["fp16"] * 3),  # 1.7.1 expands both sides first
        (wb.Recipe("w8"), "SM89", ["fp16"] * 3),
        (wb.Recipe("w4"), "SM86", ["fp16"] * 3),
        (wb.Recipe("wfp4"), "RTX 5090", ["fp16"] * 3),
    ],
    ids=lambda value: getattr(value, "label", None),
)
def test_each_block_multiplies_in_the_type_that_the_list_of_layers_shows(
    graph, pictures, tmp_path, recipe, card, linear
):
    engine = build(graph, recipe, tmp_path, pictures, card)
    frame = wb.fusion(engine)
    assert list(frame.linear_types) == linear
    high = recipe.resolved_high_precision
    assert list(frame.attention_type) == [high] * 3
    assert list(wb.predict_fusion(graph.spec, recipe, card).attention_type) == [high] * 3


def types_by_role(engine):
    """Role -> the types that its products read, those of their weights and scales, and what they multiply in."""
    frame = wb.products(engine)
    dense = frame[frame.block.notna() & (frame.role != "scores")]
    rows = dense.groupby("role")[["reads", "weights", "scales", "multiplies_in"]]
    return {role: set(part.itertuples(index=False, name=None)) for role, part in rows}


DENSE = ("qkv", "proj", "fc1", "fc2")
FP4 = {("fp4", "fp4", "fp8", "fp4")}
EXPANDED_FP4 = {("fp16", "fp4", None, "fp16")}


def test_a_product_in_fp4_reads_fp4_on_both_sides(graph, pictures, tmp_path):
    engine = build(graph, wb.Recipe("nvfp4"), tmp_path, pictures, "SM120")
    assert types_by_role(engine) == dict.fromkeys(DENSE, FP4)
    frame = wb.products(engine)
    attention = frame[frame.role == "scores"]
    assert list(attention.multiplies_in) == ["fp16"] * 3
    assert attention.kernel.str.startswith("_gemm_mha_v2").all()
    assert list(frame[frame.block.isna()].role) == ["embedding", "head"]


def test_a_split_in_five_dimensions_costs_qkv_its_fp4_and_an_import_mends_that(pictures, tmp_path):
    """The list of layers shows what no file does: 1.7.1 divides such a product into three, in FP16."""
    drawn = draw(tmp_path)
    imported = wb.import_onnx(drawn.path, tmp_path)
    raw, mended = (
        types_by_role(build(graph, wb.Recipe("nvfp4"), tmp_path, 0.1 * pictures, "SM120"))
        for graph in (drawn, imported)
    )
    assert {multiplies_in for *_, multiplies_in in raw["qkv"]} == {"fp16"}
    assert raw["proj"] == raw["fc1"] == raw["fc2"] == FP4
    assert mended == dict.fromkeys(DENSE, FP4)


@pytest.mark.parametrize(("precision", "stored"), [("mxfp8", "fp8"), ("w8", "int8"), ("w4", "int4")])
def test_weights_in_few_bits_alone_prove_no_product_in_few_bits(graph, pictures, tmp_path, precision, stored):
    types = types_by_role(build(graph, wb.Recipe(precision), tmp_path, pictures, "SM120"))
    assert {multiplies_in for rows in types.values() for *_, multiplies_in in rows} == {"fp16"}
    assert ("fp16", stored, None, "fp16") in types["fc2"]  # others may be expanded by a kernel before


def test_weights_alone_in_fp4_are_expanded_for_every_product_by_a_kernel_that_reads_them(graph, pictures, tmp_path):
    engine = build(graph, wb.Recipe("wfp4"), tmp_path, pictures, "SM120")
    assert types_by_role(engine) == dict.fromkeys(DENSE, EXPANDED_FP4)
    expanders = [layer for layer in layers_of(engine) if "fp4" in layer.constants]
    assert len(expanders) == len(DENSE) * TINY.depth
    assert not any(layer.is_product or layer.inputs for layer in expanders)


@pytest.mark.parametrize(
    ("recipe", "card", "reason"),
    [
        (wb.Recipe("nvfp4"), "SM89", "SM89 has no tensor cores for fp4; they begin with SM100"),
        (wb.Recipe("mxfp8"), "RTX 4090", "SM89 has no kernels for e8m0; these begin with SM100"),
        (wb.Recipe("wfp4"), "SM89", "SM89 has no kernels for fp4; these begin with SM100"),
        (wb.Recipe("w4"), "T4", "SM75 has no kernels for int4; these begin with SM80"),
    ],
    ids=lambda value: getattr(value, "label", None),
)
def test_a_card_without_the_type_is_refused_before_anything_is_built(
    graph, pictures, tmp_path, recipe, card, reason
):
    with pytest.raises(WorkbenchError, match=reason):
        build(graph, recipe, tmp_path, pictures, card)
    assert not wb.predict_fusion(graph.spec, recipe, card).attention_fused.any()


@pytest.mark.slow
def test_every_product_of_the_shipped_model_multiplies_in_fp4(tmp_path):
    graph = wb.export_onnx(*wb.load_checkpoint(SHIPPED), tmp_path)
    recipe = wb.Recipe("nvfp4", calibration=wb.Calibration(samples=8))
    engine = wb.build_engine(wb.apply_recipe(graph, recipe, tmp_path), "tensorrt-rtx", tmp_path, card="RTX 5090")
    assert types_by_role(engine) == dict.fromkeys(DENSE, FP4)
    frame = wb.fusion(engine)
    assert list(frame.linear_types) == ["fp4"] * 6
    assert list(frame.attention_type) == ["fp16"] * 6
