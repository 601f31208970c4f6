"""Where the time of any ONNX file goes, the meter of engines, and what the shell prints of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.graphs.drawn import draw
from workbench.backends.onnxruntime import OrtSession
from workbench.cli import commands
from workbench.errors import WorkbenchError
from workbench.graphs.quantization.recipe import apply_recipe
from workbench.performance.engine_meter import EngineMeter
from workbench.performance.onnx_profile import profile_onnx
from workbench.records import ModelSpec, Recipe

EXPORTS = Path(__file__).parents[1] / "graphs" / "torch_exports"
TINY = ModelSpec("tiny", image_size=16, patch=4, width=32, depth=2, heads=2, mlp=64, classes=4)


@pytest.mark.parametrize("name", ["fused_dynamo_static", "library_legacy"])
def test_the_layers_of_a_torch_export_fall_into_the_blocks_found_by_structure(name, tmp_path):
    made = profile_onnx(EXPORTS / f"{name}.onnx", tmp_path, batch=3)
    assert {"block00", "block01"} <= set(made.roles.block)
    for _, rows in made.roles[made.roles.block != ""].groupby("block"):
        assert {"qkv", "scores", "proj", "fc1", "fc2"} <= set(rows.role)
    assert made.roles.ms.sum() == pytest.approx(1e3 * sum(made.split.seconds.values()))
    assert made.split.seconds["attention"] > 0 < made.split.seconds["mlp"]


def test_a_cnn_has_no_attention_and_no_mlp(tmp_path):
    seconds = profile_onnx(EXPORTS / "cnn.onnx", tmp_path).split.seconds
    assert seconds["attention"] == seconds["mlp"] == 0
    assert seconds["rest"] > 0


def test_a_model_with_two_inputs_is_refused(tmp_path):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "abc"]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "two", ends[:2], ends[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "two.onnx")
    with pytest.raises(WorkbenchError, match="cannot be timed"):
        profile_onnx(tmp_path / "two.onnx", tmp_path)


def test_an_engine_is_a_meter_for_a_sweep_over_resolution(tmp_path):
    meter = EngineMeter("onnxruntime", tmp_path, batch=2)
    times = meter(TINY)
    assert set(times) == {"attention", "mlp", "rest", "whole"}
    assert all(min(each) > 0 for each in times.values())
    assert len(times["whole"]) == 10
    assert np.isfinite(meter(TINY)["whole"]).all()  # the second time the engine is there


# ---- the shell ---------------------------------------------------------------------------------------------------


def test_inspect_prints_blocks_and_each_hazard_with_its_remedy(capsys):
    assert commands.main(["inspect", str(EXPORTS / "separate_mean_legacy.onnx"), "--card", "T4"]) == 0
    text = capsys.readouterr().out
    assert "162 nodes, 2 blocks of a ViT" in text
    assert "warning: LayerNorm in pieces\n  where:  block00/norm1, block00/norm2" in text
    assert "remedy: import_onnx" in text


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    "made", [Recipe(), Recipe("int8"), Recipe("int8", exclude=("block01",))], ids=lambda r: r.label
)
def test_what_inspect_prints_fits_the_screen_and_folds_blocks_that_are_alike(
    made, width, capsys, monkeypatch, tmp_path
):
    monkeypatch.setenv("COLUMNS", str(width))
    images = np.random.default_rng(0).standard_normal((4, 16, 16, 3)).astype(np.float32)
    path = apply_recipe(draw(tmp_path), made, tmp_path, images).path
    assert commands.main(["inspect", str(path), "--card", "A10"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if "http" not in line) <= width
    rows = [line.split()[0] for line in lines if line.startswith("block0")]
    assert rows == (["block00", "block01", "block02"] if made.exclude else ["block00–block02"])


def test_inspect_shows_the_operators_of_what_has_no_blocks(capsys):
    assert commands.main(["inspect", str(EXPORTS / "cnn.onnx")]) == 0
    text = capsys.readouterr().out
    assert "no block of a ViT" in text
    assert "operator" in text
    convolutions = next(line.split() for line in text.splitlines() if line.startswith("Conv"))
    assert convolutions[1] == "2"


def test_inspect_for_programs_is_json_with_every_node(capsys):
    assert commands.main(["inspect", str(EXPORTS / "cnn.onnx"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["nodes"]) == len(onnx.load(EXPORTS / "cnn.onnx").graph.node)
    assert told["blocks"] == []


def test_inspect_refuses_what_is_no_model(capsys, tmp_path):
    (tmp_path / "no.onnx").write_text("no")
    assert commands.main(["inspect", str(tmp_path / "no.onnx")]) == 2
    assert "cannot be read as an ONNX model" in capsys.readouterr().err


def test_profile_prints_where_the_time_of_a_file_goes(capsys, tmp_path):
    path = draw(tmp_path).path
    assert commands.main(["profile", str(path), "--workspace", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "attention" in text
    assert "softmax" in text
    assert "GFLOP/s" in text
    shares = [
        float(line.split()[-2]) for line in text.partition("their share")[2].splitlines() if line.endswith("%")
    ]
    assert sum(shares) == pytest.approx(100, abs=1)
    assert commands.main(["profile", str(path), "--workspace", str(tmp_path), "--json"]) == 0
    parts = {row["part"]: row["ms"] for row in json.loads(capsys.readouterr().out)["parts"]}
    assert parts["attention"] + parts["mlp"] + parts["rest"] + parts["difference"] == pytest.approx(parts["whole"])


def test_an_encoder_that_is_one_layer_is_told_instead_of_a_model_without_attention(tmp_path, monkeypatch):
    region = {"name": "{ForeignNode[block00/norm1/scale...head/bias]}", "role": "block00 to head", "block": None}
    monkeypatch.setattr(OrtSession, "layers", lambda self, feeds: [{**region, "type": "Myelin", "seconds": 1e-3}])
    with pytest.raises(WorkbenchError, match="does not tell attention from the rest") as error:
        EngineMeter("onnxruntime", tmp_path)(TINY)
    assert "block00 to head" in error.value.why


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "onnxruntime"])
def test_profile_sweeps_a_size_over_resolution(backend, capsys, tmp_path):
    command = ["profile", "tutorial", "--depth", "1", "--sizes", "32", "48", "64", "80", "96", "--backend", backend]
    assert commands.main([*command, "--workspace", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "384 tokens, 157 pixels" in text
    assert "Curves without the 96 pixels" in text


@pytest.mark.parametrize(
    ("model", "arguments", "reason"),
    [
        ("fused_legacy.onnx", ["--batch", "-3"], "no call to time"),
        ("fused_legacy.onnx", ["--batch", "0"], "no call to time"),
        ("fused_legacy.onnx", ["--depth", "1"], "timed as it is"),
        ("fused_legacy.onnx", ["--sizes", "32", "64"], "timed as it is"),
    ],
)
def test_profile_refuses_what_means_nothing(model, arguments, reason, capsys, tmp_path):
    assert commands.main(["profile", str(EXPORTS / model), *arguments, "--workspace", str(tmp_path)]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("batch", [0, -1, 1.5, "2"])
def test_no_batch_is_timed_that_is_none(batch, tmp_path):
    with pytest.raises(WorkbenchError, match="no batch to time"):
        profile_onnx(EXPORTS / "cnn.onnx", tmp_path, batch=batch)


def test_profile_refuses_an_unknown_model(capsys, tmp_path):
    assert commands.main(["profile", "B/17", "--workspace", str(tmp_path)]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert commands.main(["profile", str(tmp_path / "none.onnx"), "--workspace", str(tmp_path)]) == 2
