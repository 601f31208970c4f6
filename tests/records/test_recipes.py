"""Recipes: what they refuse, what they resolve, and how they are called."""

import math

import pytest

from workbench.errors import WorkbenchError
from workbench.records import Calibration, Recipe


@pytest.mark.parametrize(
    ("recipe", "layout", "high", "products"),
    [
        (Recipe("fp32", layout="cpu", high_precision="bf16"), None, "fp32", {"fp32"}),
        (Recipe("fp16"), None, "fp16", {"fp16"}),
        (Recipe("bf16", exclude=("block00",)), None, "bf16", {"bf16", "fp32"}),
        (Recipe("int8"), "tensorrt", "fp16", {"int8", "fp16"}),
        (Recipe("int8", layout="cpu"), "cpu", "fp32", {"int8", "fp32"}),
        (Recipe("int8", high_precision="bf16", exclude=("block00",)), "tensorrt", "bf16", {"int8", "bf16"}),
        (Recipe("fp8", layout="cpu"), "tensorrt", "fp16", {"fp8", "fp16"}),  # fp8 exists for TensorRT only
        (Recipe("nvfp4", layout="cpu", exclude=("block00",)), "tensorrt", "fp16", {"fp4", "fp16"}),
        (Recipe("mxfp8", high_precision="bf16"), "tensorrt", "bf16", {"fp8", "bf16"}),
        (Recipe("w8", layout="cpu"), "cpu", "fp32", {"fp32"}),
        (Recipe("w4", high_precision="bf16"), "tensorrt", "bf16", {"bf16"}),
        (Recipe("int8-dynamic", high_precision="fp16"), "cpu", "fp32", {"int8", "fp32"}),
    ],
    ids=lambda value: value.label if isinstance(value, Recipe) else None,
)
def test_a_recipe_resolves_what_it_leaves_open_and_ignores_what_means_nothing(recipe, layout, high, products):
    assert recipe.resolved_layout == layout
    assert recipe.resolved_high_precision == high
    assert recipe.product_types == products


@pytest.mark.parametrize(
    ("recipe", "types"),
    [
        (Recipe("fp16"), {"fp16"}),
        (Recipe("nvfp4"), {"fp4", "fp8", "fp16"}),  # its scales are FP8
        (Recipe("mxfp8"), {"fp8", "e8m0", "fp16"}),
        (Recipe("w8", layout="cpu"), {"int8", "fp32"}),
        (Recipe("w4"), {"int4", "fp16"}),
    ],
    ids=lambda value: value.label if isinstance(value, Recipe) else None,
)
def test_a_runtime_must_know_the_types_of_products_weights_and_scales(recipe, types):
    assert recipe.types == types


def test_recipes_that_differ_have_other_labels():
    options = [{}, {"layout": "cpu"}, {"scope": "attention"}, {"high_precision": "fp32"}, {"smooth": 0.5}]
    options += [{"exclude": ("block00",)}, {"calibration": Calibration(method="minmax")}]
    options += [{"calibration": Calibration(variant="dark")}]
    options += [{"high_precision": "bf16"}]
    weights = [Recipe("w4", **each) for each in ({}, {"layout": "cpu"})]
    recipes = [
        *weights,
        *map(Recipe, ("nvfp4", "mxfp8", "w8", "fp32", "fp16", "int8-dynamic")),
        *(Recipe("int8", **each) for each in options),
    ]
    assert len({recipe.label for recipe in recipes}) == len(recipes)
    assert Recipe().label == "fp32"
    assert Recipe(exclude=["block00", "block03/fc2"]) == Recipe(exclude=("block00", "block03/fc2"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Calibration(method="max"), "'minmax'"),
        (lambda: Calibration(variant="darker"), "did you mean 'dark'"),
        (lambda: Calibration(samples=0), "positive whole number"),
        (lambda: Recipe("int9"), "did you mean 'int8'"),
        (lambda: Recipe(scope="all"), "'everything'"),
        (lambda: Recipe(layout="gpu"), "'tensorrt', 'cpu'"),
        (lambda: Recipe(high_precision="int8"), "'fp32', 'fp16', 'bf16'"),
        (lambda: Recipe(exclude="block03"), 'exclude=("block03",)'),
        (lambda: Recipe(exclude=None), "tuple of names"),
        (lambda: Recipe(exclude=(3,)), "tuple of names"),
        (lambda: Recipe(smooth=1.5), "0...1"),
        (lambda: Recipe(smooth="half"), "0...1"),
        (lambda: Recipe(smooth=math.nan), "0...1"),
        (lambda: Recipe(calibration="shapes"), 'Calibration(dataset="shapes")'),
        (lambda: Recipe(calibration=None), "Calibration"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(make, words):
    with pytest.raises(WorkbenchError) as caught:
        make()
    assert words in str(caught.value)
