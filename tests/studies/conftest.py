"""A model of one matrix product, so that a study takes a second; ONNX Runtime and workspace are real."""

import types

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from workbench.digests import digest
from workbench.errors import WorkbenchError
from workbench.records import Graph, Preprocessing, Variant

CLASSES, SIZE = 4, 8


def linear_model(path, weights):
    nodes = [
        helper.make_node("Reshape", ["images", "flat"], ["rows"], name="embedding/reshape"),
        helper.make_node("MatMul", ["rows", "weights"], ["logits"], name="head/matmul"),
    ]
    constants = [
        numpy_helper.from_array(np.array([-1, SIZE * SIZE * 3], np.int64), "flat"),
        numpy_helper.from_array(weights.astype(np.float32), "weights"),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["B", SIZE, SIZE, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", CLASSES])
    graph = helper.make_graph(nodes, "linear", [images], [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)


@pytest.fixture(scope="session")
def weights():
    return np.random.default_rng(0).normal(size=(SIZE * SIZE * 3, CLASSES))


@pytest.fixture
def images():
    return np.random.default_rng(1).normal(size=(60, SIZE, SIZE, 3)).astype(np.float32)


@pytest.fixture
def labels(images, weights):
    """The model's own answers, but for every tenth image: so the reference has a top-1 of 90 %."""
    answers = (images.reshape(len(images), -1) @ weights).argmax(axis=1)
    answers[::10] = (answers[::10] + 1) % CLASSES
    return answers


@pytest.fixture
def graph(tmp_path, weights):
    path = tmp_path / "linear.onnx"
    linear_model(path, weights)
    return Graph(path, digest(path), 20, Preprocessing(SIZE), classes=CLASSES)


@pytest.fixture
def recipes(monkeypatch, tmp_path, weights):
    """In place of ``graphs.recipes``: int8-dynamic coarsens the weights, fp16 is for a GPU, fp8 fails."""
    applied = []

    def apply_recipe(graph, recipe, workspace, *, calibration=None, progress=None):
        applied.append(recipe.precision)
        if recipe.precision == "fp8":
            raise WorkbenchError("fp8 cannot be made", why="this is a test", remedy="take another")
        if recipe.precision == "fp32":
            return Variant(graph.path, digest(graph.path), graph, recipe, 20, ("onnxruntime",))
        path = tmp_path / f"{recipe.precision}.onnx"
        linear_model(path, np.round(weights * 2) / 2)
        runtimes = ("tensorrt",) if recipe.precision == "fp16" else ("onnxruntime",)
        return Variant(path, digest(path), graph, recipe, 20, runtimes)

    stub = types.SimpleNamespace(apply_recipe=apply_recipe, applied=applied)
    monkeypatch.setitem(__import__("sys").modules, "workbench.graphs.quantization.recipe", stub)
    monkeypatch.setattr("workbench.graphs.quantization.recipe", stub, raising=False)
    return stub
