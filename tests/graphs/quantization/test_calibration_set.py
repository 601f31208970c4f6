"""What calibrated a variant is recorded, and its recipe makes the same file again."""

from dataclasses import replace

import numpy as np
import pytest

import workbench as wb
from tests.graphs.drawn import TINY, draw
from tests.graphs.onnx_file import logits
from workbench.digests import file_digest
from workbench.errors import WorkbenchError
from workbench.graphs.quantization.calibration_set import FOLDER
from workbench.records import GIVEN


@pytest.fixture(scope="module")
def recipe():
    return wb.Recipe("int8", layout="cpu")


def test_given_images_are_recorded_and_the_returned_recipe_makes_the_same_bytes(drawn, pictures, tmp_path, recipe):
    made = wb.apply_recipe(drawn, recipe, tmp_path / "first", calibration=pictures)
    calibration = made.recipe.calibration
    assert (calibration.dataset, calibration.samples, calibration.variant) == (GIVEN, 24, "plain")
    assert any(f"calibrated on 24 {GIVEN}, digest {calibration.digest[:8]}" in note for note in made.notes)
    assert wb.apply_recipe(drawn, made.recipe, tmp_path / "first") == made
    elsewhere = wb.apply_recipe(drawn, recipe, tmp_path / "second", calibration=pictures)
    assert file_digest(elsewhere.path) == file_digest(made.path)
    assert elsewhere.recipe == made.recipe
    others = wb.apply_recipe(drawn, recipe, tmp_path / "first", calibration=0.5 * pictures)
    assert others.recipe != made.recipe
    assert others.recipe.label != made.recipe.label
    assert file_digest(others.path) != file_digest(made.path)


def test_a_recipe_whose_images_are_elsewhere_or_changed_is_refused_with_what_to_do(
    drawn, pictures, tmp_path, recipe
):
    made = wb.apply_recipe(drawn, recipe, tmp_path, calibration=pictures)
    with pytest.raises(WorkbenchError, match=r"(?s)are not in the workspace.*give the same array"):
        wb.apply_recipe(drawn, made.recipe, tmp_path / "other")
    np.save(tmp_path / FOLDER / f"{made.recipe.calibration.digest}.npy", pictures + 1)
    with pytest.raises(WorkbenchError, match="was changed"):
        wb.apply_recipe(drawn, made.recipe, tmp_path)


def test_a_recipe_without_images_is_refused_and_says_how_to_name_them(drawn, tmp_path, recipe):
    with pytest.raises(WorkbenchError, match=r'(?s)names no calibration images.*Calibration\(dataset="photos"\)'):
        wb.apply_recipe(drawn, recipe, tmp_path)
    with pytest.raises(WorkbenchError, match="names no calibration images"):
        wb.calibrate(drawn, wb.Calibration(), tmp_path)
    assert wb.apply_recipe(drawn, wb.Recipe("fp16"), tmp_path).recipe == wb.Recipe("fp16")  # needs none


def test_a_model_of_the_sixteen_shapes_is_calibrated_on_them_and_says_so(tmp_path, recipe):
    graph = draw(tmp_path, spec=replace(TINY, classes=16))
    variant = wb.apply_recipe(graph, recipe, tmp_path)
    assert variant.recipe.calibration == wb.Calibration("shapes")
    assert "calibrated on 128 images of shapes" in variant.notes
    assert wb.apply_recipe(graph, variant.recipe, tmp_path) == variant


@pytest.fixture
def own(tmp_path, drawn):
    """An image set of one's own: 300 images in a file, ten classes, labelled by the model but for every fifth."""
    rng = np.random.default_rng(0)
    pixels = (rng.integers(0, 120, (300, 1, 1, 3)) + rng.integers(0, 130, (300, 16, 16, 3))).astype(np.uint8)
    labels = logits(drawn.path, wb.normalise(pixels)).argmax(axis=1)
    labels[::5] = (labels[::5] + 1) % TINY.classes
    labels[: TINY.classes] = np.arange(TINY.classes)  # every class occurs
    np.savez(tmp_path / "photos.npz", images=pixels, labels=labels)
    return tmp_path / "photos.npz"


def test_a_search_on_an_image_set_calibrates_on_its_data_set_and_its_recipe_can_be_used(drawn, own, tmp_path):
    examples = wb.images(own, count=60, preprocessing=drawn.preprocessing)
    start = wb.Recipe("int8", layout="cpu", calibration=wb.Calibration(samples=16))
    found = wb.search_recipe(drawn, start, tmp_path / "w", max_drop=50, images=examples)
    assert found.recipe.calibration == wb.Calibration(str(own), samples=16)
    assert found.recipe.exclude == ()
    variant = wb.apply_recipe(drawn, found.recipe, tmp_path / "w")
    ours, theirs = (logits(path, examples.x).argmax(axis=1) for path in (variant.path, drawn.path))
    assert abs(found.result.changed - int((ours != theirs).sum())) <= 1  # as the CPU's kernels round


def test_a_study_of_own_images_calibrates_on_them_or_refuses_the_row(drawn, own, tmp_path):
    examples = wb.images(own, count=60, preprocessing=drawn.preprocessing)
    start = wb.Recipe("int8", layout="cpu", calibration=wb.Calibration(samples=16))
    grid = {"recipes": [start], "batches": (8,), "seconds": 0.05}
    row = wb.Study(drawn, tmp_path / "w", images=examples, **grid).run().frame().iloc[0]
    assert row.recipe.calibration.dataset == str(own)
    assert row.label == "int8 cpu " + row.recipe.calibration.label
    assert row.execution == "executed"
    bare = wb.Study(drawn, tmp_path / "w", images=examples.x, labels=examples.labels, **grid).run().frame().iloc[0]
    assert bare.execution == "refused"
    assert "name a data set" in bare.reason


def test_a_choice_of_a_study_with_given_images_holds_the_recipe_that_was_measured(drawn, own, pictures, tmp_path):
    examples = wb.images(own, count=60, preprocessing=drawn.preprocessing)
    study = wb.Study(
        drawn,
        tmp_path / "w",
        recipes=[wb.Recipe("int8", layout="cpu")],
        images=examples,
        calibration=pictures,
        batches=(8,),
        seconds=0.05,
    )
    chosen = study.run().choose(max_drop=100).row
    assert chosen["recipe"].calibration.samples == len(pictures)
    assert wb.apply_recipe(drawn, chosen["recipe"], tmp_path / "w").digest == chosen["variant"]
