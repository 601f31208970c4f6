"""Recipes: what they refuse, what they resolve, and how they are called."""

import dataclasses
import math

import pytest

from workbench.errors import WorkbenchError
from workbench.records import GIVEN, Calibration, Recipe


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
        (Recipe("wfp4", layout="cpu"), "tensorrt", "fp16", {"fp16"}),
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
        (Recipe("wfp4"), {"fp4", "fp8", "fp16"}),
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
        Recipe("nvfp4", calibration=Calibration(method="dynamic")),
        *map(Recipe, ("nvfp4", "mxfp8", "w8", "wfp4", "fp32", "fp16", "int8-dynamic")),
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
        (lambda: Recipe("int8", calibration=Calibration(method="dynamic")), "one scale"),
        (lambda: Recipe("fp8", calibration=Calibration(method="dynamic")), "nvfp4, mxfp8 or int8-dynamic"),
        (lambda: Recipe(calibration="shapes"), 'Calibration(dataset="shapes")'),
        (lambda: Recipe(calibration=None), "Calibration"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(make, words):
    with pytest.raises(WorkbenchError) as caught:
        make()
    assert words in str(caught.value)


def test_every_difference_of_calibration_or_of_excluded_places_is_in_the_label():
    given = {"dataset": GIVEN, "samples": 24}
    calibrations = [{}, {"samples": 64}, {"seed": 1}, {"dataset": "cifar10"}, {"dataset": "/a/photos"}]
    calibrations += [{"dataset": "/b/photos"}, {**given, "digest": "a" * 32}, {**given, "digest": "b" * 32}]
    calibrations += [{"method": "mse", "samples": 64}, {"variant": "noisy", "seed": 1}]
    places = tuple(f"block{i:02d}/fc2" for i in range(6))
    recipes = [Recipe("int8", calibration=Calibration(**each)) for each in calibrations]
    recipes += [Recipe("int8", exclude=places[:5]), Recipe("int8", exclude=places[1:])]
    recipes += [Recipe("int8", exclude=places[:1]), Recipe("int8", exclude=places[1:2])]
    recipes += [Recipe("int8-dynamic", smooth=0.5, calibration=Calibration(samples=n)) for n in (64, 128)]
    assert len({recipe.label for recipe in recipes}) == len(recipes)
    assert Recipe("int8", calibration=Calibration("cifar10")).label == "int8 tensorrt on cifar10"
    assert Recipe("fp16", calibration=Calibration("cifar10")).label == "fp16"  # nothing is calibrated


@pytest.mark.parametrize("digest", ["../../etc/passwd", "A" * 32, "a" * 31])
def test_the_digest_of_given_images_is_one(digest):
    with pytest.raises(WorkbenchError, match="under their digest"):
        Calibration(GIVEN, samples=3, digest=digest)


def test_a_calibration_whose_data_set_is_replaced_forgets_the_images_that_were_given():
    assert dataclasses.replace(Calibration(GIVEN, samples=3, digest="a" * 32), dataset="photos").digest == ""
