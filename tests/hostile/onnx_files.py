"""Hostile ONNX files: changed fields of a right model, damaged bytes, loops without an end, weights of others."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.graphs.onnx_file import _session
from tests.hostile.outcomes import Case
from tests.hostile.pools import damaged
from tests.tiny import SIZE, Tiny, some_images
from workbench.graphs import parity
from workbench.graphs.import_ import import_onnx

LENGTHS = (-1, 0, 1, 3, 2**31, 2**62, -(2**63))


def _dims(model, rng):
    rng.choice(model.graph.initializer).dims[0] = rng.choice(LENGTHS)


def _axis(model, rng):
    rng.choice(model.graph.input[0].type.tensor_type.shape.dim).dim_value = rng.choice(LENGTHS)


def _type(model, rng):
    rng.choice(model.graph.initializer).data_type = rng.choice((0, 2, 6, 8, 10, 16, 99))


def _bytes(model, rng):
    tensor = rng.choice(model.graph.initializer)
    tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data))]


def _external(model, rng):
    tensor = rng.choice(model.graph.initializer)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {
        "location": rng.choice(("/etc/hostname", "../up", "gone", "", ".", "a\0b", "model.onnx", "/dev/zero")),
        "offset": rng.choice(("0", "-1", "x", str(2**62))),
        "length": rng.choice(("1", "-1", "x", str(2**62), "")),
    }
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def _input(model, rng):
    node = rng.choice(model.graph.node)
    node.input[rng.randrange(len(node.input))] = rng.choice(("gone", "", node.output[0], "images", "second"))


def _output(model, rng):
    rng.choice(model.graph.node).output[0] = rng.choice(("images", "hidden", "", "logits"))


def _operator(model, rng):
    rng.choice(model.graph.node).op_type = rng.choice(("Nothing", "", "If", "Softmax", "Concat"))


def _opset(model, rng):
    del model.opset_import[:]
    model.opset_import.add(domain=rng.choice(("", "com.microsoft")), version=rng.choice((0, -1, 1, 13, 20, 999)))


def _loop(model, rng):
    """``while true: active = active + 0``."""
    tensor, flag = helper.make_tensor_value_info, TensorProto.BOOL
    inputs = [tensor("i", TensorProto.INT64, []), tensor("go", flag, []), tensor("x", TensorProto.FLOAT, None)]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        inputs,
        [tensor("still", flag, []), tensor("y", TensorProto.FLOAT, None)],
    )
    count = rng.choice(("", "often"))
    constants = {"often": np.array(2**62), "true": np.array(True)}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    model.graph.node.insert(3, helper.make_node("Loop", [count, "true", "active"], ["looped"], "loop", body=body))
    model.graph.node[4].input[0] = "looped"


def _huge(model, rng):
    """A constant of 2^62 numbers that is added."""
    shape = np.array([2 ** rng.choice((31, 40, 62)), 4])
    model.graph.initializer.append(numpy_helper.from_array(shape, "shape"))
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["shape"], ["huge"], "huge"))


CHANGES = (_dims, _axis, _type, _bytes, _external, _input, _output, _operator, _opset, _huge)


def files(rng: random.Random, count: int, folder: Path) -> Iterator[Case]:
    """A changed or damaged file, imported; one in fifty has a loop that never ends."""
    right, limit = Tiny.of(hidden=4).model(), parity.LOOPS_END_S
    parity.LOOPS_END_S = 0.3
    try:
        yield from _files(right, rng, count, folder)
    finally:
        parity.LOOPS_END_S = limit


def _files(right: onnx.ModelProto, rng: random.Random, count: int, folder: Path) -> Iterator[Case]:
    for number in range(count):
        path, change = folder / str(number) / "model.onnx", rng.choice(CHANGES)
        path.parent.mkdir()
        model = onnx.ModelProto.FromString(right.SerializeToString())
        change = _loop if number % 50 == 7 else change
        change(model, rng)
        content = model.SerializeToString()
        if number % 4 == 1:
            change, content = damaged, damaged(right.SerializeToString(), rng)
        path.write_bytes(content)
        yield Case(
            f"{change.__name__} {number}", lambda path=path: (path, import_onnx(path, path.parent / "w")), _same
        )


def _same(result) -> bool:
    """The import computes what the file computes, by ONNX Runtime alone."""
    path, graph = result
    images = some_images(graph.batch or 2)
    layout = images if graph.preprocessing.layout == "NHWC" else images.transpose(0, 3, 1, 2)
    images = np.ascontiguousarray(layout)
    found = []
    for file in (path, graph.path):
        session = _session(file.read_bytes())
        found.append(session.run(None, {session.get_inputs()[0].name: images})[0])
    return np.allclose(*found, atol=1e-4) and graph.preprocessing.size == SIZE
