import dataclasses

import numpy as np
import pytest

import workbench as wb
from tests.graphs.drawn import TINY, draw, jax_parameters, scaled
from tests.graphs.onnx_file import logits
from workbench.datasets import ImageSet
from workbench.errors import WorkbenchError
from workbench.graphs.analysis.selftest import check_evaluator, check_order

CLASSES = tuple(f"class {i}" for i in range(TINY.classes))


@pytest.fixture(scope="module")
def named(drawn):
    """The graph, with class names in its preprocessing."""
    return dataclasses.replace(drawn, preprocessing=dataclasses.replace(drawn.preprocessing, classes=CLASSES))


@pytest.fixture(scope="module")
def image_set(named):
    """Images that the model classifies correctly, a few of them mislabelled."""
    pixels = np.random.default_rng(0).integers(0, 256, (120, 1, 1, 3)) // 2 + np.random.default_rng(1).integers(
        0, 128, (120, 16, 16, 3)
    )
    plain = ImageSet(pixels.astype(np.uint8), np.zeros(120, np.int64), CLASSES, "noise", named.preprocessing)
    chosen = logits(named.path, plain.x).argmax(axis=1)
    chosen[::10] = (chosen[::10] + 1) % TINY.classes
    return dataclasses.replace(plain, labels=chosen.astype(np.int64))


def test_sides_that_belong_together_pass(named, image_set, pictures, shelf):
    variant = wb.apply_recipe(named, wb.Recipe("int8"), shelf, calibration=pictures)
    result = check_evaluator(image_set, graph=named, model=jax_parameters(named), variant=variant)
    assert len(result.frame()) == 6
    assert "90.0% of 120" in result.checks[-1].found


def prepared(image_set, **change):
    return dataclasses.replace(image_set, preprocessing=dataclasses.replace(image_set.preprocessing, **change))


def arrays(change):
    """The images and labels of a set as arrays, changed by a function of both."""
    return lambda image_set: change(image_set.x, image_set.labels)


#: What is changed of images that fit, and words of the refusal.
REFUSALS = {
    "mean": (lambda each: (prepared(each, mean=(123.7, 116.3, 103.5)),), "preprocessing.mean"),
    "std": (lambda each: (prepared(each, std=(58.4, 57.1, 57.4)),), "preprocessing.std"),
    "interpolation": (lambda each: (prepared(each, interpolation="bicubic"),), "preprocessing.interpolation"),
    "aspect": (lambda each: (prepared(each, keep_aspect=True),), "preprocessing.keep_aspect"),
    "classes": (
        lambda each: (dataclasses.replace(each, classes=(CLASSES[0], CLASSES[2], CLASSES[1], *CLASSES[3:])),),
        "class 1 is 'class 2'",
    ),
    "0 to 1": (arrays(lambda x, labels: (x / 2 + 0.5, labels)), "not normalised as the graph wants"),
    "0 to 255": (arrays(lambda x, labels: (x * 127.5 + 127.5, labels)), "not normalised as the graph wants"),
    "another std": (arrays(lambda x, labels: (x / 0.25, labels)), "not normalised as the graph wants"),
    "renamed labels": (
        arrays(lambda x, labels: (x, (labels + 1) % TINY.classes)),
        "the labels and FP32 count the classes in different orders",
    ),
    "labels of other images": (
        arrays(lambda x, labels: (x, np.random.default_rng(3).permutation(labels))),
        "chance",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_images_and_labels_that_do_not_belong_to_the_graph_are_refused(named, image_set, case):
    change, words = REFUSALS[case]
    with pytest.raises(WorkbenchError, match=words):
        check_evaluator(*change(image_set), graph=named)


def test_a_graph_of_other_parameters_is_refused_with_the_block(named, image_set):
    spec, params = jax_parameters(named)
    layer = params["Transformer"]["encoderblock_1"]["MlpBlock_0"]["Dense_1"]
    layer["kernel"] = layer["kernel"] * np.float32(1.1)
    with pytest.raises(WorkbenchError, match="JAX and the FP32 graph differ at block01/output"):
        check_evaluator(image_set, graph=named, model=(spec, params))


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_labels_that_say_nothing_are_not_taken_for_another_order(classes):
    rng = np.random.default_rng(0)
    for _ in range(200):
        ours, reference = rng.integers(0, classes, (2, 48))
        assert check_order("the labels", ours, reference, classes)


def test_a_variant_whose_classes_are_in_another_order_is_refused(named, image_set, tmp_path):
    order = np.roll(np.arange(TINY.classes), 1)

    def roll(weights):
        weights["head/kernel"] = weights["head/kernel"][:, order]
        weights["head/bias_value"] = weights["head/bias_value"][order]

    variant = wb.apply_recipe(draw(tmp_path, edit=roll), wb.Recipe("fp16"), tmp_path)
    with pytest.raises(WorkbenchError, match="the variant and FP32 count"):
        check_evaluator(image_set.x, graph=named, variant=variant)


def test_a_bad_variant_is_not_mistaken_for_a_bad_evaluator(named, image_set, pictures, shelf):
    recipe = wb.Recipe("int8", scope="everything", calibration=wb.Calibration(method="entropy"))
    variant = wb.apply_recipe(named, recipe, shelf, calibration=0.01 * pictures)
    assert check_evaluator(image_set, graph=named, variant=variant)


def test_a_model_whose_answer_does_not_depend_on_the_image_is_refused(tmp_path, pictures):
    graph = draw(tmp_path, edit=scaled({"head/kernel": 0}))
    with pytest.raises(WorkbenchError, match="does not depend on the image"):
        check_evaluator(pictures, graph=graph)
    one = check_evaluator(pictures[:1], graph=graph)  # of one image nothing can be said
    assert one.checks
