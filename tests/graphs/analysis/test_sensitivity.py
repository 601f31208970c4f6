import dataclasses

import numpy as np
import pytest

import workbench as wb
from tests.graphs.drawn import TINY, draw, outlier, scaled
from tests.graphs.onnx_file import error, logits
from workbench.errors import Cancelled, WorkbenchError
from workbench.graphs.analysis.search import _shortest_prefix
from workbench.graphs.quantization.emulation import emulated

MINMAX = wb.Recipe("int8", calibration=wb.Calibration(method="minmax"))
ROLES = ("qkv", "scores", "proj", "fc1", "fc2")


@pytest.fixture(scope="module")
def many():
    rng = np.random.default_rng(7)
    return (rng.uniform(-0.6, 0.6, (96, 1, 1, 1)) + rng.uniform(-0.4, 0.4, (96, 16, 16, 3))).astype(np.float32)


@pytest.fixture(scope="module")
def labels(drawn, many):
    """Right for the float32 model on three images of four."""
    chosen = logits(drawn.path, many).argmax(axis=1)
    return np.where(np.arange(len(many)) % 4 == 0, (chosen + 1) % TINY.classes, chosen)


@pytest.fixture(scope="module")
def mapped(drawn, many, labels, pictures, shelf):
    recipe = wb.Recipe("int8", scope="attention")
    return wb.sensitivity(drawn, recipe, shelf, images=many, labels=labels, calibration=pictures)


def test_there_is_a_row_for_every_block_and_role(mapped):
    expected = [(f"block{i:02d}", role) for i in range(TINY.depth) for role in ROLES]
    assert sorted((row.block, row.role) for row in mapped.rows) == sorted(expected)
    assert mapped.top1 == 0.75
    assert mapped.frame().pivot(index="block", columns="role", values="logit_error").notna().all().all()


def test_a_row_is_what_a_recipe_that_excludes_all_others_does(drawn, many, labels, pictures, shelf, mapped):
    row = next(row for row in mapped.rows if row.place == "block01/fc2")
    others = tuple(other.place for other in mapped.rows if other.place != row.place)
    recipe = wb.Recipe("int8", scope="attention", high_precision="fp32", exclude=others)
    variant = wb.apply_recipe(drawn, recipe, shelf, calibration=pictures)
    ours, reference = logits(variant.path, many), logits(drawn.path, many)
    assert row.logit_error == pytest.approx(error(ours, reference), rel=1e-2)
    hits = [(answers.argmax(axis=1) == labels).sum() for answers in (reference, ours)]
    assert row.points_lost == pytest.approx(100 * (hits[0] - hits[1]) / len(many))


@pytest.mark.parametrize("precision", ["nvfp4", "mxfp8", "w8", "w4", "wfp4"])
def test_linear_layers_are_tried_in_every_low_precision(drawn, many, labels, pictures, shelf, precision):
    recipe = wb.Recipe(precision, scope="attention", high_precision="fp32")  # the scope means nothing there
    tried = wb.sensitivity(drawn, recipe, shelf, images=many, labels=labels, calibration=pictures)
    assert len(tried.rows) == 4 * TINY.depth
    row = next(row for row in tried.rows if row.place == "block01/fc2")
    others = tuple(other.place for other in tried.rows if other.place != row.place)
    alone = dataclasses.replace(recipe, exclude=others)
    variant = emulated(wb.apply_recipe(drawn, alone, shelf, calibration=pictures), shelf)
    assert row.logit_error == pytest.approx(error(logits(variant.path, many), logits(drawn.path, many)), rel=2e-2)
    found = wb.search_recipe(drawn, recipe, shelf, max_drop=100, images=many, labels=labels, calibration=pictures)
    assert found.recipe == tried.recipe  # nothing need be excluded, and both name the images that calibrated
    assert found.recipe.calibration.samples == (len(pictures) if recipe.is_calibrated else 128)


def test_a_place_with_outliers_is_the_most_sensitive(pictures, many, tmp_path):
    graph = draw(tmp_path, edit=scaled(outlier("block01/norm2", "block01/mlp/fc1", 80), at=3))
    found = wb.sensitivity(graph, MINMAX, tmp_path, images=many[:32], calibration=pictures)
    assert found.order[0] == "block01/fc1"
    assert np.isnan(found.top1)


def test_an_interrupted_run_goes_on_where_it_was(drawn, many, pictures, tmp_path):
    recipe, events = wb.Recipe("int8"), []

    def cancel(stage, done, total):
        if stage == "sensitivity" and done == 5:
            raise Cancelled

    arguments = dict(images=many[:16], labels=None, calibration=pictures)
    with pytest.raises(Cancelled):
        wb.sensitivity(drawn, recipe, tmp_path, **arguments, progress=cancel)
    whole = wb.sensitivity(drawn, recipe, tmp_path, **arguments, progress=lambda *event: events.append(event[:2]))
    assert len(whole.rows) == 4 * TINY.depth
    classified_at = [index for index, (stage, _) in enumerate(events) if stage == "classify"]
    assert events.index(("sensitivity", 5)) < classified_at[0]  # the first five are found, not made


def test_bad_arguments_and_labels_in_another_order_are_refused_before_any_place_is_tried(
    drawn, many, labels, pictures, tmp_path
):
    stages = set()
    for recipe, wrong, words in (
        (wb.Recipe("fp16"), labels, "fp16"),
        (wb.Recipe("int8"), labels[:-1], "one whole number"),
        (wb.Recipe("int8"), labels + 0.5, "one whole number"),
        (wb.Recipe("int8"), labels + 100, "beyond"),
        (wb.Recipe("int8", exclude=("block77",)), labels, "block77"),
        (
            wb.Recipe("int8"),
            (labels + 1) % TINY.classes,
            "the labels and FP32 count the classes in different orders",
        ),
    ):
        arguments = dict(images=many, labels=wrong, calibration=pictures)
        with pytest.raises(WorkbenchError, match=words):
            wb.sensitivity(drawn, recipe, tmp_path, **arguments, progress=lambda stage, *_: stages.add(stage))
    assert "sensitivity" not in stages


# ---- search ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("places", [1, 2, 7, 20, 60])
def test_bisection_finds_the_shortest_prefix_in_few_evaluations(places):
    def search(needed):
        asked = []
        found = _shortest_prefix(places, lambda count: asked.append(count) or count >= needed)
        return found, len(set(asked))

    for needed in range(places + 1):
        found, evaluations = search(needed)
        assert found == needed
        assert evaluations <= np.log2(places) + 2


def test_a_loose_limit_excludes_nothing_and_holds(drawn, many, labels, pictures, shelf, mapped):
    found = wb.search_recipe(
        drawn, mapped.recipe, shelf, max_drop=50, images=many, labels=labels, calibration=pictures
    )
    assert found.recipe.exclude == ()
    assert found.verdict == "holds"
    assert not found.frame().excluded.any()
    assert found.sensitivity == mapped


def test_the_fragile_place_is_excluded_and_the_answer_is_counted(many, pictures, tmp_path):
    fragile = draw(tmp_path, edit=scaled(outlier("block00/norm1", "block00/attention/qkv", 3000), at=3))
    labels = logits(fragile.path, many).argmax(axis=1)
    arguments = dict(images=many, labels=labels, calibration=pictures)
    found = wb.search_recipe(fragile, MINMAX, tmp_path, max_drop=6, **arguments)
    assert "block00/qkv" in found.recipe.exclude
    tried = dict(found.tried)
    assert len(tried) <= np.log2(4 * TINY.depth) + 3
    assert tried[0].points_lost > 6 >= found.result.points_lost
    assert tried[len(found.recipe.exclude)] == found.result
    _, high = found.result.points_lost_interval
    assert found.verdict == ("holds" if high <= 6 else "cannot tell")
    assert (found.images_needed is None) == (found.verdict == "holds")
    assert found.frame().loc[0, "place"] == "block00/qkv"
    assert f"{len(many)} images" in str(found)


def test_a_search_needs_labels_and_a_limit(drawn, many, labels, pictures, shelf):
    shuffled = np.random.default_rng(0).permutation(labels)
    cases = ((1, None, "labels"), (1, shuffled, "chance"), (-1, labels, "negative"), ("1", labels, "limit"))
    for limit, given, word in cases:
        with pytest.raises(WorkbenchError, match=word):
            wb.search_recipe(
                drawn, wb.Recipe("int8"), shelf, max_drop=limit, images=many, labels=given, calibration=pictures
            )
