"""Prediction and build, side by side: every row of FACTS' fusion table, and combinations beyond it."""

from __future__ import annotations

import pytest

from tests.backends.vits import Block, draw
from workbench.backends import build_engine
from workbench.backends.hardware.cards import capability
from workbench.backends.tensorrt.attention_kernels import predict_attention
from workbench.performance.fusion import fusion

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
    heads, expected = (8, 9, 80, 256, 264), [None, high, high, high, None]
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
    fused = {16: "int8", 24: None, 32: "int8", 64: "int8", 80: None} if opset == 20 else {24: None, 64: "int8"}
    blocks = [Block(head_size=h, low="int8", linear="int8") for h in fused]
    assert_predicted(tmp_path, blocks, list(fused.values()), opset=opset)


@pytest.mark.parametrize(("tokens", "expected"), [(512, "int8"), (513, None)])
def test_int8_attention_is_fused_up_to_512_tokens(tmp_path, tokens, expected):
    assert_predicted(tmp_path, [Block(head_size=h, low="int8") for h in (16, 64)], [expected] * 2, tokens=tokens)


@pytest.mark.parametrize(("tokens", "expected"), [(384, "int8"), (385, None)])
def test_on_turing_the_int8_kernel_for_heads_of_64_ends_at_384_tokens(tmp_path, tokens, expected):
    blocks = [Block(head_size=h, low="int8") for h in (32, 64)]
    assert_predicted(tmp_path, blocks, ["int8", expected], card="T4", tokens=tokens)


@pytest.mark.parametrize(("card", "tokens", "expected"), [("A10", 65, None), ("L4", 33, "int8"), ("L4", 32, None)])
def test_a_single_int8_head_before_a_quantized_proj_wants_ada_and_more_than_32_tokens(
    tmp_path, card, tokens, expected
):
    before = [Block(head_size=h, heads=1, low="int8", linear="int8") for h in (16, 64)]
    others = [Block(heads=1, low="int8"), Block(heads=1, linear="int8"), Block(low="int8", linear="int8")]
    if expected:  # where these are fused anyway, nothing new is learnt from others
        others = []
    known = [expected, expected, *["int8", "fp16", "int8"][: len(others)]]
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
    expected = {**PARTIAL, "query key value softmax": "fp8"}
    assert_predicted(tmp_path, blocks, list(expected.values()), card="SM89")


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
