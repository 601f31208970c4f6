import json

import numpy as np
import pytest

import workbench as wb
from tests.graphs.drawn import draw
from tests.graphs.onnx_file import logits
from workbench.errors import WorkbenchError
from workbench.records import CORRUPTIONS, METHODS
from workbench.studies import calibration_grid as grids
from workbench.studies.calibration_grid import (
    CalibrationGrid,
    CalibrationLoss,
    calibration_grid,
    read_grid,
    recorded_grid,
    write_grid,
)

INT8 = wb.Recipe("int8", layout="cpu", calibration=wb.Calibration("shapes", samples=8))
#: Of 1,000 images FP32 alone is right on 30, the quantized model on 10.
WORSE = CalibrationLoss("minmax", "dark", 50, 30, 10, 1000)
EQUAL = CalibrationLoss("minmax", "plain", 4, 1, 1, 1000)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def images():
    return wb.images("shapes", count=40, size=16).x


def test_each_method_and_set_is_compared_with_fp32_on_the_same_images(graph, images, tmp_path):
    labels = logits(graph.path, images).argmax(axis=1)  # FP32 is right on every image
    given = {"images": images, "labels": labels, "methods": ("minmax", "entropy"), "sets": ("plain", "dark")}
    found = calibration_grid(graph, INT8, tmp_path, **given)
    assert [(row.method, row.variant) for row in found.rows] == [
        ("minmax", "plain"),
        ("minmax", "dark"),
        ("entropy", "plain"),
        ("entropy", "dark"),
    ]
    for row in found.rows:
        assert row.images == len(images)
        assert (row.only_fp32, row.only_quantized) == (row.changed, 0)
        recipe = wb.Recipe("int8", layout="cpu", calibration=wb.Calibration("shapes", row.variant, row.method, 8))
        ours = logits(wb.apply_recipe(graph, recipe, tmp_path).path, images).argmax(axis=1)
        assert row.changed == (ours != labels).sum()


def test_a_second_run_builds_and_classifies_nothing(graph, images, tmp_path, monkeypatch):
    given = {"images": images, "labels": np.zeros(len(images), int), "methods": ("mse",), "sets": ("noisy",)}
    first = calibration_grid(graph, INT8, tmp_path, **given)
    monkeypatch.setattr(grids, "build_engine", None)  # calling it would fail
    assert calibration_grid(graph, INT8, tmp_path, **given) == first


def test_a_verdict_is_told_from_the_interval_and_stands_in_the_table():
    grid = CalibrationGrid("tiny", INT8, "shapes/evaluation", (EQUAL, WORSE))
    assert (EQUAL.verdict, WORSE.verdict) == ("cannot tell", "worse")
    assert WORSE.points_lost == 2
    assert 0 < WORSE.interval[0] < 2 < WORSE.interval[1]
    assert list(grid.table().columns) == ["plain", "dark"]
    assert grid.table().loc["minmax", "dark"].startswith("2.00 [")
    assert list(grid.frame().verdict) == ["cannot tell", "worse"]
    assert "in 1 of 2 cells" in str(grid)


def test_a_grid_survives_its_file_and_a_changed_one_is_refused(tmp_path):
    grid, path = CalibrationGrid("tiny", INT8, "shapes/evaluation", (EQUAL, WORSE)), tmp_path / "tiny.jsonl"
    write_grid(path, grid, "a processor")
    assert read_grid(path) == grid
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2].replace('"only_fp32": 30', '"only_fp32": 3')]))
    with pytest.raises(WorkbenchError, match=r"Line 3 .* is no cell"):
        read_grid(path)
    path.write_text("\n".join(lines[:2]))
    with pytest.raises(WorkbenchError, match="is not whole"):
        read_grid(path)


@pytest.mark.parametrize("counts", [(3, 2, 2, 10), (11, 0, 0, 10), (0, 0, -1, 10)])
def test_counts_that_contradict_each_other_are_refused(counts):
    with pytest.raises(WorkbenchError, match="contradict"):
        CalibrationLoss("minmax", "plain", *counts)


def test_what_is_not_calibrated_or_has_no_labels_is_refused(graph, images, tmp_path):
    with pytest.raises(WorkbenchError, match="has no calibration"):
        calibration_grid(graph, wb.Recipe("fp16"), tmp_path, images=images, labels=np.zeros(40, int))
    with pytest.raises(WorkbenchError, match="needs labels"):
        calibration_grid(graph, INT8, tmp_path, images=images)
    with pytest.raises(WorkbenchError, match="recorded grid"):
        recorded_grid("nobody's")


@pytest.mark.parametrize("name", ["shapes-vit", "shapes-vit-outliers"])
def test_a_recorded_grid_has_every_method_and_set_on_enough_images(name):
    grid = recorded_grid(name)
    assert [(row.method, row.variant) for row in grid.rows] == [(m, s) for m in METHODS for s in CORRUPTIONS]
    assert grid.images >= 1000
    header = json.loads((grids.FOLDER / f"{name}.jsonl").read_text().splitlines()[0])
    assert header["machine"]
    assert header["day"].startswith("20")
