"""The pipeline in the shell: the steps of the notebooks, each found again by the next."""

import json
from pathlib import Path

import pytest

import workbench as wb
from tests.graphs.references import EXPORTS, REFERENCE
from workbench.cli.commands import REFUSED, main

MODEL = str(EXPORTS / "library_legacy.onnx")


@pytest.fixture
def shell(tmp_path, capsys):
    """Run a command in a workspace of its own; returns its lines, the last one is a path."""

    def run(*words, status=0):
        assert main([*words, "--workspace", str(tmp_path / "ws")]) == status
        out = capsys.readouterr()
        return (out.out if status == 0 else out.err).splitlines()

    return run


def test_import_prints_what_was_found_and_where_the_graph_is(shell):
    lines = shell("import", MODEL, "--preprocessing", "deit")
    assert Path(lines[-1]).suffix == ".onnx"
    assert Path(lines[-1]).is_file()
    text = "\n".join(lines)
    assert "classes        10" in text
    assert "resize=36" in text
    assert "of the original's on" in text


def test_a_checkpoint_is_taken_by_the_same_command(shell):
    lines = shell("import", str(REFERENCE / "vit_tiny_token.npz"))
    assert Path(lines[-1]).is_file()


def test_a_table_of_the_preprocessing_is_json_and_a_wrong_one_is_refused(shell):
    table = json.dumps({"mean": [1, 2, 3], "std": [4, 5, 6]})
    assert "mean=(1, 2, 3)" in "".join(shell("import", MODEL, "--preprocessing", table))
    for wrong, words in (("{mean", "begins as a table"), ("diet", "a preset")):
        assert words in "\n".join(shell("import", MODEL, "--preprocessing", wrong, status=REFUSED))


def test_a_recipe_makes_the_variant_that_the_notebook_makes(shell, tmp_path):
    options = ["--precision", "int8", "--layout", "cpu", "--dataset", "shapes", "--samples", "8"]
    lines = shell("recipe", MODEL, *options, "--exclude", "block01", "block00/fc2")
    graph = wb.load_graph(MODEL, tmp_path / "ws")
    asked = wb.Recipe(
        "int8", layout="cpu", calibration=wb.Calibration("shapes", samples=8), exclude=("block01", "block00/fc2")
    )
    assert Path(lines[-1]).samefile(wb.apply_recipe(graph, asked, tmp_path / "ws").path)


def test_build_makes_an_engine_that_runs(shell, tmp_path):
    lines = shell("build", MODEL, "--precision", "int8-dynamic", "--batches", "1", "2", "4")
    assert "int8-dynamic" in lines[0]
    assert Path(lines[-1]).is_file()
    (engine,) = wb.Workspace(tmp_path / "ws").observations("engine", wb.Engine)
    assert engine.batches == wb.Batches(1, 2, 4)
    assert engine.path == Path(lines[-1])


def test_search_says_what_stays_out_and_by_which_images_it_judged(shell):
    lines = shell("search", MODEL, "--precision", "w8", "--images", "24", "--max-drop", "50")
    assert lines[0] == "24 images of shapes/evaluation, labelled by FP32"
    assert lines[-1] == "exclude        nothing"
