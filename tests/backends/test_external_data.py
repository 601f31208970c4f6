"""Which files belong to a model, as onnx itself writes them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from workbench.backends.external_data import external_files


def save(folder, location: str | None):
    weight = numpy_helper.from_array(np.ones((64, 64), np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])],
        [weight],
    )
    extra = {"save_as_external_data": True, "location": location, "size_threshold": 0} if location else {}
    onnx.save(helper.make_model(graph), folder / "m.onnx", **extra)
    return folder / "m.onnx"


@pytest.mark.parametrize("location", ["weights.bin", "x" * 127, "y" * 128, "z" * 200, None])
def test_external_weights_are_found_under_names_of_any_length(tmp_path, location):
    assert external_files(save(tmp_path, location)) == ((tmp_path / location,) if location else ())


def test_files_above_the_models_folder_do_not_belong_to_it(tmp_path):
    (tmp_path / "m").mkdir()
    path = save(tmp_path / "m", "weights.bin")
    (tmp_path / "ghts.bin").write_bytes(b"somebody else wrote it")
    path.write_bytes(path.read_bytes().replace(b"weights.bin", b"../ghts.bin"))
    assert external_files(path) == ()
