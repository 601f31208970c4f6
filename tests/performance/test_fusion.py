"""Prediction and build, side by side: every row of FACTS' fusion table, and combinations beyond it."""

from __future__ import annotations

import pytest

from tests.backends.vits import ALL_SITES, Block, draw
from workbench.backends import build_engine
from workbench.backends.hardware.cards import capability
from workbench.backends.tensorrt.attention_kernels import predict_attention
from workbench.errors import WorkbenchError
from workbench.performance.fusion import fusion
from workbench.performance.predicted_fusion import attention_types, predict_fusion
from workbench.records import Batches, ModelSpec, Recipe

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is missing: pip install tensorrt-rtx")


def predictions(blocks, high, tokens, card):
    return [
        predict_attention(
            high,
            block.low,
            frozenset(block.sites if block.low else ()),
            head_size=block.head_size,
            tokens=tokens,
            sm=capability(card),
            joined=block.heads == 1 and block.linear == block.low,
        )
        for block in blocks
    ]


def build(folder, blocks, card, **drawing):
    return build_engine(draw(folder, blocks, **drawing), "tensorrt-rtx", folder / "workspace", card=card)


def assert_predicted(tmp_path, blocks, expected, card="SM86", tokens=50, high="fp16", **drawing):
    """Build all blocks in one engine; the build, the prediction and the known answer must be the same."""
    frame = fusion(build(tmp_path, blocks, card, tokens=tokens, high=high, **drawing))
    built = [row.attention_type if row.attention_fused else None for row in frame.itertuples()]
    predicted = [p.type if p.fused else None for p in predictions(blocks, high, tokens, card)]
    assert built == expected
    assert predicted == expected
    assert list(frame.block) == [f"block{i:02d}" for i in range(len(blocks))]


@pytest.mark.parametrize("high", ["fp16", "bf16"])
def test_half_attention_is_fused_for_heads_of_9_to_256_channels(tmp_path, high):
    heads = (8, 9, 64, 80, 256, 264, 512)
    expected = [None, *[high] * 4, None, None]
    assert_predicted(tmp_path, [Block(head_size=h) for h in heads], expected, high=high)


@pytest.mark.parametrize(("tokens", "batch"), [(2, None), (577, None), (197, 4)])
def test_half_attention_is_fused_at_any_number_of_tokens(tmp_path, tokens, batch):
    blocks = [Block(head_size=h) for h in (64, 80)]
    assert_predicted(tmp_path, blocks, ["fp16", "fp16"], tokens=tokens, batch=batch)


def test_attention_in_fp32_is_never_fused(tmp_path):
    assert_predicted(tmp_path, [Block(), Block(head_size=16), Block(linear="int8")], [None] * 3, high="fp32")


@pytest.mark.parametrize("opset", [20, 17])
def test_int8_linear_layers_leave_half_attention_fused_in_half(tmp_path, opset):
    blocks = [Block(linear="int8"), Block(linear="int8", head_size=80)]
    assert_predicted(tmp_path, blocks, ["fp16", "fp16"], opset=opset)


@pytest.mark.parametrize("opset", [20, 17])
def test_int8_attention_is_fused_for_heads_of_16_32_and_64_channels(tmp_path, opset):
    heads = (16, 24, 32, 64, 80, 96)
    expected = ["int8", None, "int8", "int8", None, None]
    assert_predicted(
        tmp_path, [Block(head_size=h, low="int8", linear="int8") for h in heads], expected, opset=opset
    )


@pytest.mark.parametrize(("tokens", "expected"), [(512, "int8"), (513, None)])
def test_int8_attention_is_fused_up_to_512_tokens(tmp_path, tokens, expected):
    assert_predicted(tmp_path, [Block(head_size=h, low="int8") for h in (16, 64)], [expected] * 2, tokens=tokens)


@pytest.mark.parametrize(("tokens", "expected"), [(384, "int8"), (385, None)])
def test_on_turing_the_int8_kernel_for_heads_of_64_ends_at_384_tokens(tmp_path, tokens, expected):
    blocks = [Block(head_size=h, low="int8") for h in (32, 64)]
    assert_predicted(tmp_path, blocks, ["int8", expected], card="T4", tokens=tokens)


@pytest.mark.parametrize(
    ("card", "tokens", "expected"), [("A10", 65, None), ("L4", 65, "int8"), ("L4", 33, "int8"), ("L4", 32, None)]
)
def test_a_single_int8_head_before_a_quantized_proj_wants_ada_and_more_than_32_tokens(
    tmp_path, card, tokens, expected
):
    before = [Block(head_size=h, heads=1, low="int8", linear="int8") for h in (16, 64)]
    others = [Block(heads=1, low="int8"), Block(heads=1, linear="int8"), Block(low="int8", linear="int8")]
    known = [expected, expected, "int8", "fp16", "int8"]
    assert_predicted(tmp_path, [*before, *others], known, card=card, tokens=tokens)


PARTIAL = {
    "query key value": None,
    "query key value softmax": None,
    "query key softmax context": None,
    "value softmax": None,
    "query key value softmax context scores": None,
    "scores": "fp16",
    "softmax": None,
    "context": "fp16",
    "key": "fp16",
    "query value": "fp16",
}


def test_partly_quantized_int8_attention_is_fused_only_where_no_product_is_int8(tmp_path):
    blocks = [Block(low="int8", sites=tuple(sites.split())) for sites in PARTIAL]
    assert_predicted(tmp_path, blocks, list(PARTIAL.values()))


def test_partly_quantized_fp8_attention_needs_no_pair_after_the_second_product(tmp_path):
    blocks = [Block(low="fp8", sites=tuple(sites.split())) for sites in PARTIAL]
    expected = list(({**PARTIAL, "query key value softmax": "fp8"}).values())
    assert_predicted(tmp_path, blocks, expected, card="SM89")


@pytest.mark.parametrize(("tokens", "expected"), [(31, None), (32, "fp8"), (577, "fp8")])
def test_fp8_attention_is_fused_from_32_tokens_on(tmp_path, tokens, expected):
    blocks = [Block(head_size=h, low="fp8", linear="fp8") for h in (64, 80)]
    assert_predicted(tmp_path, blocks, [expected] * 2, card="L4", tokens=tokens)


@pytest.mark.parametrize("high", ["bf16", "fp32"])
def test_a_whole_int8_attention_is_fused_whatever_the_rest_computes_in(tmp_path, high):
    assert_predicted(tmp_path, [Block(low="int8"), Block(low="int8", linear="int8")], ["int8"] * 2, high=high)


@pytest.mark.slow
@pytest.mark.parametrize("card", ["SM75", "SM80", "SM86", "SM89", "SM120"])
@pytest.mark.parametrize("tokens", [17, 197, 257, 577, 1025])
@pytest.mark.parametrize("low", [None, "int8", "fp8"])
def test_prediction_and_build_agree_on_every_architecture(tmp_path, card, tokens, low):
    if low == "fp8" and capability(card) < 89:
        pytest.skip("FP8 is not built below SM89")
    blocks = [Block(head_size=h, low=low) for h in (8, 16, 32, 40, 64, 80, 128, 192, 256, 320)]
    rows = fusion(build(tmp_path, blocks, card, tokens=tokens)).attention_type
    assert [t or None for t in rows] == [p.type for p in predictions(blocks, "fp16", tokens, card)]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """One engine of a block in half, one with INT8 linear layers, and one with half-quantized attention."""
    blocks = [Block(), Block(linear="int8"), Block(low="int8", sites=ALL_SITES[:3])]
    return build(tmp_path_factory.mktemp("mixed"), blocks, "SM86")


def test_the_table_says_in_which_type_linear_layers_read(mixed):
    assert list(fusion(mixed).linear_types) == ["fp16", "int8", "fp16"]


def test_an_attention_that_is_not_fused_costs_more_layers(mixed):
    fused, _, apart = fusion(mixed).itertuples()
    assert apart.layers > fused.layers
    assert apart.reformats > fused.reformats


def test_a_block_in_fp32_names_the_roles_that_compute_in_it(tmp_path):
    (row,) = fusion(build(tmp_path, [Block()], "A10", high="fp32")).itertuples()
    assert {"qkv", "scores", "softmax", "proj", "fc1", "fc2"} <= set(row.fp32.split())
    assert row.attention_fused is False
    assert row.attention_type is None


def test_an_engine_without_a_list_of_layers_is_refused(mixed):
    mixed.log_path.rename(mixed.log_path.with_suffix(".away"))
    try:
        with pytest.raises(WorkbenchError, match="are not known"):
            fusion(mixed)
    finally:
        mixed.log_path.with_suffix(".away").rename(mixed.log_path)


SPEC = ModelSpec("t", image_size=224, patch=16, width=192, depth=3, heads=3, mlp=768, classes=10)


def test_an_excluded_block_is_predicted_in_the_high_precision_type():
    frame = predict_fusion(SPEC, Recipe(precision="int8", scope="attention", exclude=("block01",)), "RTX 3090")
    assert list(frame.attention_type) == ["int8", "fp16", "int8"]
    assert list(frame.attention_fused) == [True] * 3


@pytest.mark.parametrize("name", ["block02", "block02/scores", "block02/attention", "block02/attention/context"])
def test_what_is_excluded_is_found_under_every_name_that_a_recipe_may_give_it(name):
    recipe = Recipe(precision="int8", scope="attention", high_precision="fp32", exclude=(name,))
    frame = predict_fusion(SPEC, recipe, "A10")
    assert list(frame.attention_type) == ["int8", "int8", None]


def test_the_softmax_of_everything_prevents_fusion_until_it_is_excluded():
    recipe = Recipe(precision="int8", scope="everything", exclude=("block01/softmax", "block02/scores"))
    assert list(predict_fusion(SPEC, recipe, "A10").attention_type) == [None, "int8", "fp16"]


def test_excluding_a_linear_layer_leaves_attention_quantized():
    recipe = Recipe(precision="int8", scope="attention", exclude=("block02/proj", "block0"))
    assert list(predict_fusion(SPEC, recipe, "A10").attention_type) == ["int8"] * 3


def test_h14_is_predicted_apart_in_int8_attention_because_of_its_heads_of_80_channels():
    huge = ModelSpec("H/14", image_size=224, patch=14, width=1280, depth=32, heads=16, mlp=5120, classes=1000)
    assert not predict_fusion(huge, Recipe(precision="int8", scope="attention"), "A10").attention_fused.any()
    assert predict_fusion(huge, Recipe(precision="int8"), "A10").attention_fused.all()


def test_a_recipe_for_onnx_runtime_has_no_prediction():
    with pytest.raises(WorkbenchError, match="int8-dynamic"):
        predict_fusion(SPEC, Recipe(precision="int8-dynamic"), "T4")


@pytest.mark.parametrize(
    ("recipe", "card", "reason"),
    [
        (Recipe("fp8"), "A10", "no tensor cores for fp8"),
        (Recipe("int8", scope="attention", high_precision="bf16"), "T4", "no tensor cores for bf16"),
        (Recipe("bf16"), "T4", "no tensor cores for bf16"),
        (Recipe("int8", layout="cpu"), "T4", "is for ONNX Runtime"),
    ],
)
def test_what_no_builder_takes_is_predicted_apart_with_that_reason(recipe, card, reason):
    frame = predict_fusion(SPEC, recipe, card)
    assert not frame.attention_fused.any()
    assert frame.reason.str.contains(reason).all()


@pytest.mark.parametrize("arguments", [(None, Recipe(), "T4"), (SPEC, "int8", "T4"), (SPEC, Recipe(), None)])
def test_a_prediction_wants_a_shape_a_recipe_and_a_card(arguments):
    with pytest.raises(WorkbenchError):
        predict_fusion(*arguments)


def test_fusion_is_read_off_engines_alone():
    with pytest.raises(WorkbenchError, match="given was str"):
        fusion("engine.plan")


def test_scope_linear_leaves_attention_without_qdq():
    assert attention_types(Recipe(precision="fp8", scope="linear"), "block00") == ("fp16", None, frozenset())


def test_batches_do_not_change_what_is_fused(tmp_path):
    variant = draw(tmp_path, [Block()])
    for batches in (Batches(1, 1, 1), Batches(1, 64, 128)):
        engine = build_engine(variant, "tensorrt-rtx", tmp_path, batches=batches, card="A100")
        assert list(fusion(engine).attention_fused) == [True]
