"""Predictions from shape, recipe and card; and beside builds of what this project exports and quantizes."""

from __future__ import annotations

import pytest

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.performance.predicted_fusion import predict_fusion
from workbench.records import ModelSpec, Recipe

SPEC = ModelSpec("t", image_size=224, patch=16, width=192, depth=3, heads=3, mlp=768, classes=10)


@pytest.mark.parametrize("name", ["block02", "block02/scores", "block02/attention", "block02/attention/context"])
def test_what_is_excluded_is_found_under_every_name_that_a_recipe_may_give_it(name):
    recipe = Recipe("int8", scope="attention", high_precision="fp32", exclude=(name,))
    assert list(predict_fusion(SPEC, recipe, "A10").attention_type) == ["int8", "int8", None]


def test_what_is_excluded_of_everything_can_be_fused_and_a_linear_layer_changes_no_attention():
    softmax = Recipe("int8", scope="everything", exclude=("block01/softmax", "block02/scores"))
    assert list(predict_fusion(SPEC, softmax, "A10").attention_type) == [None, "int8", "fp16"]
    linear = Recipe("int8", scope="attention", exclude=("block02/proj", "block0"))
    assert list(predict_fusion(SPEC, linear, "A10").attention_type) == ["int8"] * 3


def test_h14_is_not_fused_in_int8_attention_because_of_its_heads_of_80_channels():
    huge = ModelSpec("H/14", image_size=224, patch=14, width=1280, depth=32, heads=16, mlp=5120, classes=1000)
    assert not predict_fusion(huge, Recipe(precision="int8", scope="attention"), "A10").attention_fused.any()
    assert predict_fusion(huge, Recipe(precision="int8"), "A10").attention_fused.all()


@pytest.mark.parametrize(
    ("recipe", "card", "reason"),
    [
        (Recipe("fp8"), "A10", "no tensor cores for fp8"),
        (Recipe("int8", scope="attention", high_precision="bf16"), "T4", "no tensor cores for bf16"),
        (Recipe("bf16"), "T4", "no tensor cores for bf16"),
        (Recipe("int8", layout="cpu"), "T4", "is for ONNX Runtime"),
    ],
)
def test_what_no_builder_takes_is_not_fused_and_the_reason_says_so(recipe, card, reason):
    frame = predict_fusion(SPEC, recipe, card)
    assert not frame.attention_fused.any()
    assert frame.reason.str.contains(reason).all()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((SPEC, Recipe("int8-dynamic"), "T4"), "int8-dynamic"),  # for ONNX Runtime
        ((None, Recipe(), "T4"), None),
        ((SPEC, "int8", "T4"), None),
        ((SPEC, Recipe(), None), None),
    ],
)
def test_a_prediction_wants_a_shape_a_recipe_for_tensorrt_and_a_card(arguments, reason):
    with pytest.raises(WorkbenchError, match=reason):
        predict_fusion(*arguments)


# ---- beside builds -----------------------------------------------------------------------------------------------

TWO_BLOCKS = wb.ModelSpec("two blocks", image_size=96, patch=8, width=192, depth=2, heads=3, mlp=384, classes=10)
ATTENTION = {"scope": "attention"}
EVERYTHING = {"scope": "everything"}
#: Recipe, card, and the types of attention in both blocks, None where it is not fused.
RECIPES = [
    (wb.Recipe("fp32"), "SM86", [None, None]),
    (wb.Recipe("fp16"), "T4", ["fp16", "fp16"]),
    (wb.Recipe("fp16", exclude=("block01/fc2",)), "SM86", ["fp16", "fp16"]),
    (wb.Recipe("fp16", exclude=("block01/scores",)), "SM86", ["fp16", None]),
    (wb.Recipe("fp16", exclude=("block00/attention/scores", "block01/attention/context")), "SM86", ["fp16"] * 2),
    (wb.Recipe("bf16", exclude=("block01/attention/scores", "block01/attention/softmax")), "SM86", ["bf16", None]),
    (wb.Recipe("bf16"), "SM86", ["bf16", "bf16"]),
    (wb.Recipe("int8"), "SM86", ["fp16", "fp16"]),
    (wb.Recipe("int8", high_precision="fp32"), "SM86", [None, None]),
    (wb.Recipe("int8", **ATTENTION), "T4", ["int8", "int8"]),
    (wb.Recipe("int8", high_precision="bf16", **ATTENTION), "SM86", ["int8", "int8"]),
    (wb.Recipe("int8", high_precision="fp32", **ATTENTION), "SM86", ["int8", "int8"]),
    (wb.Recipe("int8", smooth=0.5, **ATTENTION), "SM86", ["int8", "int8"]),
    (wb.Recipe("int8", exclude=("block01",), **ATTENTION), "SM86", ["int8", "fp16"]),
    (wb.Recipe("int8", exclude=("block01/scores",), **ATTENTION), "SM86", ["int8", "fp16"]),
    (wb.Recipe("int8", exclude=("block01/attention/scores",), **ATTENTION), "SM86", ["int8", None]),
    (wb.Recipe("int8", exclude=("block01/proj",), **ATTENTION), "SM86", ["int8", "int8"]),
    (wb.Recipe("int8", **EVERYTHING), "SM86", [None, None]),
    (wb.Recipe("int8", exclude=("block01/softmax",), **EVERYTHING), "SM86", [None, "int8"]),
    (wb.Recipe("fp8"), "SM89", ["fp16", "fp16"]),
    (wb.Recipe("fp8", **ATTENTION), "L4", ["fp8", "fp8"]),
    (wb.Recipe("nvfp4", **ATTENTION), "RTX 5090", ["fp16", "fp16"]),
    (wb.Recipe("mxfp8", high_precision="bf16"), "SM120", ["bf16", "bf16"]),
    (wb.Recipe("w8"), "SM89", ["fp16", "fp16"]),
    (wb.Recipe("w4", high_precision="fp32"), "SM86", [None, None]),
    (wb.Recipe("wfp4"), "SM120", ["fp16", "fp16"]),
]


EACH = pytest.mark.parametrize(
    ("recipe", "card", "expected"), RECIPES, ids=lambda value: getattr(value, "label", None)
)


@EACH
def test_what_a_recipe_does_to_attention_is_predicted(recipe, card, expected):
    assert list(predict_fusion(TWO_BLOCKS, recipe, card).attention_type) == expected


@pytest.fixture(scope="module", params=[20, 17])
def exported(request, tmp_path_factory):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is missing: pip install tensorrt-rtx")
    from workbench.models.vit import init

    folder = tmp_path_factory.mktemp("fusion")
    images = wb.images("shapes", split="calibration", count=16, size=96).x
    return wb.export_onnx(TWO_BLOCKS, init(TWO_BLOCKS), folder, opset=request.param, images=images), images, folder


@pytest.mark.slow
@EACH
def test_attention_is_fused_as_it_was_predicted(exported, recipe, card, expected):
    graph, images, folder = exported
    variant = wb.apply_recipe(graph, recipe, folder, calibration=images)
    built = wb.fusion(wb.build_engine(variant, "tensorrt-rtx", folder, card=card))
    assert list(built.attention_type) == expected
    assert list(built.attention_fused) == [kind is not None for kind in expected]
