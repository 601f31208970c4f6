"""What TensorRT for RTX makes of types below eight bits and of blocks: read from its list of layers."""

import pytest

import workbench as wb
from tests.graphs.drawn import TINY, draw
from workbench.backends.tensorrt.layers import layers_of
from workbench.errors import WorkbenchError

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
        (wb.Recipe("nvfp4", high_precision="bf16"), "SM120", ["fp4"] * 3),
        (wb.Recipe("mxfp8"), "SM120", ["fp16"] * 3),  # 1.7.1 expands both sides first
        (wb.Recipe("w8"), "SM89", ["fp16"] * 3),
        (wb.Recipe("w4"), "SM86", ["fp16"] * 3),
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
    """Role -> the types that its products read, and those of their constants, in all blocks."""
    types = {}
    for layer in layers_of(engine):
        for place in layer.places if layer.is_product else ():
            if place.block:
                types.setdefault(place.role, set()).add(("fp4" in layer.inputs, "fp4" in layer.constants))
    return types


def test_a_product_in_fp4_reads_fp4_on_both_sides(graph, pictures, tmp_path):
    types = types_by_role(build(graph, wb.Recipe("nvfp4"), tmp_path, pictures, "SM120"))
    assert types == {role: {(True, True)} for role in ("qkv", "proj", "fc1", "fc2")}


def test_a_split_behind_qkv_costs_its_fp4(pictures, tmp_path):
    """The list of layers shows what no file does: 1.7.1 divides such a product into three, in FP16."""
    types = types_by_role(build(draw(tmp_path), wb.Recipe("nvfp4"), tmp_path, 0.1 * pictures, "SM120"))
    assert types["qkv"] == {(False, False)}
    assert types["proj"] == types["fc1"] == types["fc2"] == {(True, True)}


@pytest.mark.parametrize(
    ("recipe", "card", "reason"),
    [
        (wb.Recipe("nvfp4"), "SM89", "SM89 has no tensor cores for fp4; they begin with SM100"),
        (wb.Recipe("mxfp8"), "RTX 4090", "SM89 has no kernels for e8m0; these begin with SM100"),
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
