"""Where the time of any ONNX file goes, and the meter of engines."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from workbench.errors import WorkbenchError
from workbench.performance.onnx_profile import profile_onnx

EXPORTS = Path(__file__).parents[1] / "graphs" / "torch_exports"


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


@pytest.mark.parametrize("batch", [0, -1, 1.5, "2"])
def test_no_batch_is_timed_that_is_none(batch, tmp_path):
    with pytest.raises(WorkbenchError, match="no batch to time"):
        profile_onnx(EXPORTS / "cnn.onnx", tmp_path, batch=batch)
