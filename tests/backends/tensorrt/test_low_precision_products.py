"""What TensorRT for RTX makes of types below eight bits: read from its list of layers, on a drawn ViT."""

import pytest

import workbench as wb
from tests.graphs.drawn import draw
from workbench.backends.tensorrt.layers import layers_of
from workbench.errors import WorkbenchError

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is missing: pip install tensorrt-rtx")


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def pictures(graph):
    return 0.1 * wb.images("shapes", count=8, split="calibration", size=16).x


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


def test_a_product_in_fp4_reads_fp4_on_both_sides(graph, pictures, tmp_path):
    layers = layers_of(build(graph, wb.Recipe("nvfp4"), tmp_path, pictures, "SM120"))
    products = [layer for layer in layers if layer.kind == "gemm"]
    linear = [each for each in products if any(place.block for place in each.places)]
    assert len(linear) == 12
    assert all("fp4" in each.inputs and "fp4" in each.constants for each in linear)


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
