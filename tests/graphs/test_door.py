"""What the door for ONNX files refuses, each named; what passes is tested by the imports."""

import random
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.hostile.onnx_files import _loop
from tests.tiny import Tiny
from workbench.errors import WorkbenchError
from workbench.graphs import parity
from workbench.graphs.door import check_onnx
from workbench.graphs.import_ import import_onnx


@pytest.fixture
def model():
    return Tiny.of(hidden=4).model()


@pytest.fixture
def saved(tmp_path, model):
    def save(change=lambda model: None):
        change(model)
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return save


def test_a_right_model_passes_with_and_without_external_weights(saved, tmp_path):
    assert check_onnx(saved()).graph.node[0].op_type == "Reshape"
    assert check_onnx(Tiny.of().graph(tmp_path, external=True).path)


def weights(model, **entries):
    """The first weight as external data with these entries."""
    tensor = model.graph.initializer[1]
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", "offset": "0", "length": str(size), **entries}.items():
        tensor.external_data.add(key=key, value=value)


def constant_of(model, shape):
    model.graph.initializer.append(numpy_helper.from_array(np.array(shape), "shape"))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["huge"], "huge"))


def renamed(index, name):
    return lambda model: model.graph.node[index].input.__setitem__(0, name)


REFUSED = {
    "weights by an absolute path": (lambda m: weights(m, location="/etc/passwd"), "outside its folder"),
    "weights above the folder": (lambda m: weights(m, location="../w.bin"), "outside its folder"),
    "weights that are not there": (weights, "not there"),
    "weights behind a link": (lambda m: weights(m, location="link"), "outside its folder"),
    "weights beyond the file": (lambda m: weights(m, location="short.bin"), "of 'short.bin'"),
    "a length that is no number": (lambda m: weights(m, location="short.bin", length="many"), "names many bytes"),
    "an offset below zero": (lambda m: weights(m, location="short.bin", offset="-8"), "at -8"),
    "fewer bytes than the shape": (lambda m: m.graph.initializer[1].ClearField("raw_data"), "numbers|reshape"),
    "a shape of 2^62": (lambda m: m.graph.initializer[1].dims.__setitem__(0, 2**62), "has the shape"),
    "a negative shape": (lambda m: m.graph.initializer[1].dims.__setitem__(0, -1), "has the shape"),
    "an unknown type": (lambda m: setattr(m.graph.initializer[1], "data_type", 99), "unknown type 99"),
    "an axis of 2^62": (lambda m: constant_of(m, [2**62]), "makes"),
    "an input that is not there": (renamed(1, "gone"), "reads 'gone', which nothing makes"),
    "a name that two nodes make": (lambda m: m.graph.node.append(m.graph.node[2]), "have the name 'active'"),
    "an output that nothing makes": (lambda m: m.graph.node.pop(), "nothing makes its output 'logits'"),
    "no operators": (lambda m: m.graph.ClearField("node"), "holds no operators"),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_no_program_should_load_is_refused_with_the_reason(saved, tmp_path, change, says):
    (tmp_path.parent / "outside.bin").write_bytes(bytes(10_000))
    (tmp_path / "link").symlink_to(tmp_path.parent / "outside.bin")
    (tmp_path / "short.bin").write_bytes(bytes(16))
    path = saved(change)
    for read in (check_onnx, lambda path: import_onnx(path, tmp_path / "w")):
        with pytest.raises(WorkbenchError, match=says):
            read(path)


def test_bytes_where_text_belongs_are_refused(saved):
    path = saved()
    content = path.read_bytes()
    assert content.count(b"block00/mlp/fc1") == 1
    path.write_bytes(content.replace(b"block00/mlp/fc1", b"block00\xff\xfe\xfd\xfc/fc1"))
    with pytest.raises(WorkbenchError, match=r"NodeProto\.name holds bytes where text belongs"):
        check_onnx(path)


def test_a_loop_that_never_ends_is_refused_before_it_runs_and_stopped_where_it_does(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "LOOPS_END_S", 0.5)
    path = saved(lambda model: _loop(model, random.Random(0)))
    with pytest.raises(WorkbenchError, match="holds a Loop that cannot be written out"):
        import_onnx(path, tmp_path / "w")
    sides = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[1:]
    images = np.zeros((1, *(side.dim_value for side in sides)))
    begin = time.monotonic()
    with pytest.raises(WorkbenchError, match="does not end"):
        parity.outputs_of(path, [images.astype(np.float32)])
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_plain_file_is_refused_without_waiting(tmp_path, make):
    make(tmp_path / "model.onnx")
    with pytest.raises(WorkbenchError, match="no plain file"):
        check_onnx(tmp_path / "model.onnx")
