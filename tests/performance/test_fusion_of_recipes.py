"""Prediction and build of what this project exports and quantizes itself: recipe by recipe."""

from __future__ import annotations

import pytest

import workbench as wb

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is missing: pip install tensorrt-rtx")

SPEC = wb.ModelSpec("two blocks", image_size=96, patch=8, width=192, depth=2, heads=3, mlp=384, classes=10)
ATTENTION = {"scope": "attention"}
EVERYTHING = {"scope": "everything"}
#: Recipe, card, and the types of attention in both blocks, None where it is not fused.
RECIPES = [
    (wb.Recipe("fp32"), "SM86", [None, None]),
    (wb.Recipe("fp16"), "T4", ["fp16", "fp16"]),
    (wb.Recipe("fp16", exclude=("block01/fc2",)), "SM86", ["fp16", "fp16"]),
    (wb.Recipe("fp16", exclude=("block01/scores",)), "SM86", ["fp16", None]),
    (
        wb.Recipe("fp16", exclude=("block00/attention/scores", "block01/attention/context")),
        "SM86",
        ["fp16", "fp16"],
    ),
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
]


@pytest.fixture(scope="module", params=[20, 17])
def exported(request, tmp_path_factory):
    from workbench.models.vit import init

    folder = tmp_path_factory.mktemp("fusion")
    images = wb.images("shapes", split="calibration", count=16, size=96).x
    return wb.export_onnx(SPEC, init(SPEC), folder, opset=request.param, images=images), images, folder


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "card", "expected"), RECIPES, ids=lambda value: getattr(value, "label", None))
def test_what_a_recipe_does_to_attention_is_what_was_predicted(exported, recipe, card, expected):
    graph, images, folder = exported
    variant = wb.apply_recipe(graph, recipe, folder, calibration=images)
    built = wb.fusion(wb.build_engine(variant, "tensorrt-rtx", folder, card=card))
    assert list(built.attention_type) == expected
    assert list(built.attention_fused) == [kind is not None for kind in expected]
    assert list(wb.predict_fusion(SPEC, recipe, card).attention_type) == expected
