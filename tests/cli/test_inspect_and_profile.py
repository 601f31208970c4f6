"""What ``workbench inspect`` and ``workbench profile`` print."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.graphs.drawn import draw
from workbench.cli.commands import main
from workbench.graphs.quantization.recipe import apply_recipe
from workbench.records import Recipe

EXPORTS = Path(__file__).parents[1] / "graphs" / "torch_exports"


def test_inspect_prints_blocks_and_each_hazard_with_its_remedy(capsys):
    assert main(["inspect", str(EXPORTS / "separate_mean_legacy.onnx"), "--card", "T4"]) == 0
    text = capsys.readouterr().out
    assert "162 nodes, 2 blocks of a ViT" in text
    assert "warning: LayerNorm in pieces\n  where:  block00/norm1, block00/norm2" in text
    assert "remedy: import_onnx" in text


@pytest.mark.parametrize("made", [Recipe("int8"), Recipe("int8", exclude=("block01",))], ids=lambda r: r.label)
def test_what_inspect_prints_fits_the_screen_and_folds_blocks_that_are_alike(made, capsys, monkeypatch, tmp_path):
    images = np.random.default_rng(0).standard_normal((4, 16, 16, 3)).astype(np.float32)
    path = apply_recipe(draw(tmp_path), made, tmp_path, images).path
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        assert main(["inspect", str(path), "--card", "A10"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(len(line) for line in lines if "http" not in line) <= width
        rows = [line.split()[0] for line in lines if line.startswith("block0")]
        assert rows == (["block00", "block01", "block02"] if made.exclude else ["block00–block02"])


def test_inspect_shows_the_operators_of_what_has_no_blocks_and_every_node_as_json(capsys):
    assert main(["inspect", str(EXPORTS / "cnn.onnx")]) == 0
    text = capsys.readouterr().out
    assert "no block of a ViT" in text
    convolutions = next(line.split() for line in text.splitlines() if line.startswith("Conv"))
    assert convolutions[1] == "2"
    assert main(["inspect", str(EXPORTS / "cnn.onnx"), "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)
    assert len(tables["nodes"]) == len(onnx.load(EXPORTS / "cnn.onnx").graph.node)
    assert tables["blocks"] == []


def test_profile_prints_where_the_time_of_a_file_goes(capsys, tmp_path):
    path = draw(tmp_path).path
    assert main(["profile", str(path), "--workspace", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("attention", "softmax", "GFLOP/s"))
    rows = text.partition("their share")[2].splitlines()
    assert sum(float(row.split()[-2]) for row in rows if row.endswith("%")) == pytest.approx(100, abs=1)
    assert main(["profile", str(path), "--workspace", str(tmp_path), "--json"]) == 0
    parts = {row["part"]: row["ms"] for row in json.loads(capsys.readouterr().out)["parts"]}
    assert parts["attention"] + parts["mlp"] + parts["rest"] + parts["difference"] == pytest.approx(parts["whole"])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "onnxruntime"])
def test_profile_sweeps_a_size_over_resolution(backend, capsys, tmp_path):
    command = ["profile", "tutorial", "--depth", "1", "--sizes", "32", "48", "64", "80", "96", "--backend", backend]
    assert main([*command, "--workspace", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "384 tokens, 157 pixels" in text
    assert "Curves without the 96 pixels" in text


FUSED = str(EXPORTS / "fused_legacy.onnx")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["inspect", __file__], "cannot be read as an ONNX model"),
        (["profile", FUSED, "--batch", "-3"], "no call to time"),
        (["profile", FUSED, "--batch", "0"], "no call to time"),
        (["profile", FUSED, "--depth", "1"], "timed as it is"),
        (["profile", FUSED, "--sizes", "32", "64"], "timed as it is"),
        (["profile", "B/17"], "did you mean"),
        (["profile", "none.onnx"], "none.onnx"),
    ],
)
def test_what_cannot_be_inspected_or_profiled_is_refused_with_the_reason(words, reason, capsys):
    assert main(words) == 2
    assert reason in capsys.readouterr().err
