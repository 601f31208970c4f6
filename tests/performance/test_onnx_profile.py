"""Where the time of any ONNX file goes, and the meter of engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from workbench.backends.onnxruntime import OrtSession
from workbench.errors import WorkbenchError
from workbench.performance.engine_meter import EngineMeter
from workbench.performance.onnx_profile import profile_onnx
from workbench.records import ModelSpec

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


def test_an_encoder_in_one_layer_is_refused_and_not_taken_for_a_model_without_attention(tmp_path, monkeypatch):
    region = {"name": "{ForeignNode[block00/norm1/scale...head/bias]}", "role": "block00 to head", "block": None}
    monkeypatch.setattr(OrtSession, "layers", lambda self, feeds: [{**region, "type": "Myelin", "seconds": 1e-3}])
    with pytest.raises(WorkbenchError, match="do not show what is attention") as error:
        EngineMeter("onnxruntime", tmp_path)(TINY)
    assert "block00 to head" in error.value.why


@pytest.mark.parametrize("batch", [0, -1, 1.5, "2"])
def test_no_batch_is_timed_that_is_none(batch, tmp_path):
    with pytest.raises(WorkbenchError, match="no batch to time"):
        profile_onnx(EXPORTS / "cnn.onnx", tmp_path, batch=batch)
