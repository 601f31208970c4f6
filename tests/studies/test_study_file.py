from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from workbench.cli.commands import main
from workbench.errors import WorkbenchError
from workbench.records import Recipe
from workbench.studies.study_file import StudyFile

GRID = """
name = "laptop"
model = "linear.onnx"
batches = [1, 8]
seconds = 0.05
[images]
dataset = "mine.npz"
count = 60
[limits]
max_drop = 60
[[recipes]]
precision = "fp32"
[[recipes]]
precision = "int8-dynamic"
"""

RECIPE = 'model = "x.onnx"\n[[recipes]]\n'


@pytest.fixture
def write(tmp_path):
    def make(text):
        path = tmp_path / "study.toml"
        path.write_text(text)
        return path

    return make


@pytest.fixture
def mine(tmp_path, graph, recipes, monkeypatch):
    """An image set as a file, and a graph in place of an import."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (400, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "mine.npz", images=pixels, labels=rng.integers(0, 4, 400))
    monkeypatch.setattr(StudyFile, "_graph", lambda self, workspace: graph)
    monkeypatch.setattr("workbench.measuring.timing.WINDOW_S", 0.002)


def test_the_example_file_is_valid_also_with_every_line_that_is_commented_out(write):
    file = StudyFile.read("data/study.toml")
    assert [recipe.label for recipe in file.recipes()] == ["fp32", "int8-dynamic", "int8 cpu"]
    assert file.limits == {"max_drop": 0.5}
    body = Path("data/study.toml").read_text().split("\n\n", 1)[1]  # what comes after the explanation
    file = StudyFile.read(write("\n".join(line.removeprefix("# ") for line in body.splitlines())))
    assert file.values["seconds"] == 2.0
    assert file.values["cards"] == {"tensorrt-rtx": "SM86"}
    assert (file.keys.preprocessing, file.keys.search.max_drop) == ("vit_jax", 0.5)
    assert file.recipes()[2] == Recipe("int8", layout="cpu", smooth=0.5, exclude=("block00", "block05/fc2"))


def test_the_command_runs_the_study_prints_the_table_and_writes_the_report(write, mine, capsys, tmp_path):
    path = write(GRID)
    assert main(["study", str(path)]) == 0
    told = capsys.readouterr().out
    assert "int8-dynamic" in told
    assert "Take " in told.splitlines()[-1]
    assert (tmp_path / "report.html").exists()
    assert main(["report", "--study", "laptop", "--workspace", str(tmp_path / "workspace"), "--max-drop", "60",
                 "--out", str(tmp_path / "again.html")]) == 0  # fmt: skip
    assert (tmp_path / "again.html").exists()


def test_a_model_that_torch_exported_is_studied_on_images_of_ones_own(write, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.measuring.timing.WINDOW_S", 0.002)
    monkeypatch.setenv("COLUMNS", "160")  # a narrow terminal shows fewer columns
    export = Path(__file__).parents[1] / "graphs" / "torch_exports" / "fused_dynamo.onnx"  # takes (B, 3, H, W)
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "own.npz", images=rng.integers(0, 256, (60, 32, 32, 3), np.uint8), labels=np.arange(60) % 10
    )
    text = """
model = "EXPORT"
seconds = 0.05
batches = [4]
images = { dataset = "own.npz", count = 12 }
[[recipes]]
precision = "fp32"
[[recipes]]
precision = "int8"
layout = "cpu"
calibration = { dataset = "own.npz", samples = 3 }
"""
    assert main(["study", str(write(text.replace("EXPORT", str(export))))]) == 0
    told = capsys.readouterr().out
    assert told.count(" executed ") == 2
    assert "Take " in told.splitlines()[-1]


def test_images_of_ones_own_are_taken_whole_and_calibrate_the_recipes_that_name_none(write, tmp_path):
    export = Path(__file__).parents[1] / "graphs" / "torch_exports" / "fused_dynamo.onnx"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "own.npz", images=pixels, labels=np.arange(60) % 10)
    text = f"""
model = "{export}"
images = {{ dataset = "own.npz", split = "all" }}
[[recipes]]
precision = "int8"
calibration = {{ samples = 3 }}
[[recipes]]
precision = "int8"
calibration = {{ dataset = "shapes" }}
"""
    study = StudyFile.read(write(text)).study()
    assert len(study.images) == 60
    assert [recipe.calibration.dataset for recipe in study.recipes] == [str(tmp_path / "own.npz"), "shapes"]


def test_limits_that_nothing_keeps_still_leave_table_and_report(write, mine, capsys, tmp_path):
    path = write(GRID.replace("max_drop = 60", "max_drop = 60\nmax_latency_ms = 0.000001"))
    assert main(["study", str(path)]) == 2
    told = capsys.readouterr()
    assert "images/s" in told.out
    assert "No engine of this study is within the limits" in told.err
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = [", "cannot be read as a study"),
        ('name = "x"', "does not say what to study"),
        (GRID.replace("batches", "batchs"), "did you mean 'batches'"),
        (GRID.replace("count = 60", 'count = "many"'), "count in images in .* must be a whole number"),
        (GRID.replace("max_drop", "max_dorp"), "did you mean 'max_drop'"),
        (GRID + 'checkpoint = "x.npz"', "Unknown key in"),
        (RECIPE + 'precison = "fp32"', "did you mean 'precision'"),
        (RECIPE + 'precision = "int9"', "did you mean 'int8'"),
        (RECIPE + 'precision = "int8"\ncalibration = { method = "entrpy" }', "did you mean 'entropy'"),
        (RECIPE + 'precision = "int8"\ncalibration = { sample = 4 }', "did you mean 'samples'"),
        ('checkpoint = "x.npz"\n' + GRID, "does not say what to study"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_before_any_work(write, text, message):
    with pytest.raises(WorkbenchError, match=message):
        StudyFile.read(write(text))


# ---- preprocessing and search ------------------------------------------------------------------------------------


EXPORT = Path(__file__).parents[1] / "graphs" / "torch_exports" / "library_legacy.onnx"


@pytest.mark.parametrize(
    ("written", "resize"),
    [('"deit"', 36), ('"config.json"', 40), ("{ mean = [1, 2, 3], std = [4, 5, 6], resize = 48 }", 48)],
)
def test_the_preprocessing_is_a_preset_a_file_beside_the_study_or_a_table(write, tmp_path, written, resize):
    (tmp_path / "config.json").write_text('{"input_size": [3, 32, 32], "crop_pct": 0.8}')
    images = "[images]\ncount = 4"
    head = f'model = "{EXPORT}"\npreprocessing = {written}\n{images}'
    study = StudyFile.read(write(f'{head}\n[[recipes]]\nprecision = "fp32"')).study()
    assert (study.graph.preprocessing.size, study.graph.preprocessing.resize) == (32, resize)
    assert "labelled by FP32" in study.request.dataset  # the 16 shapes are not this model's 10 classes


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('preprocessing = "diet"', "deit"),
        ("preprocessing = 3", "A config"),
        ("preprocessing = { mean = [1, 2], std = [1, 1, 1] }", "mean"),
        ("search = { max_drop = -1 }", "max_drop"),
        ("search = { max_drop = nan }", "max_drop"),
        ('search = { split = "test" }', "split"),
        ("search = { limit = 1 }", "limit"),
    ],
)
def test_what_is_no_preprocessing_or_search_is_refused_before_any_work(write, line, words):
    with pytest.raises(WorkbenchError) as refused:
        StudyFile.read(write(f'model = "x.onnx"\n{line}\n[[recipes]]\nprecision = "fp32"'))
    assert words in str(refused.value)


def test_a_search_adds_the_recipe_that_keeps_the_limit_where_it_leaves_something_out(write, monkeypatch):
    from workbench.graphs.analysis import search

    asked = []

    def found(graph, recipe, workspace, *, max_drop, images, progress):
        asked.append((recipe.precision, max_drop, len(images), images.name))
        exclude = ("block00/fc2",) if recipe.precision == "w8" else ()
        return SimpleNamespace(recipe=replace(recipe, exclude=exclude))

    monkeypatch.setattr(search, "search_recipe", found)
    grid = "".join(f'[[recipes]]\nprecision = "{name}"\n' for name in ("fp32", "w8", "w4"))
    text = f'model = "{EXPORT}"\n[images]\ncount = 20\n[search]\nmax_drop = 2\ncount = 12\n{grid}'
    study = StudyFile.read(write(text)).study()
    assert [(one.precision, one.exclude) for one in study.recipes] == [
        ("fp32", ()), ("w8", ()), ("w8", ("block00/fc2",)), ("w4", ())]  # fmt: skip
    assert asked == [(name, 2, 12, "shapes/training, labelled by FP32") for name in ("w8", "w4")]
