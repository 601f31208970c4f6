"""A classifier of two matrix products, drawn node by node, whose logits NumPy computes as well."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from workbench.digests import digest
from workbench.records import Graph, Preprocessing, Recipe, Variant

SIZE, CLASSES = 8, 7


@dataclass(frozen=True)
class Tiny:
    """Weights of (pixels, hidden) and (hidden, classes), with a ReLU between them."""

    first: np.ndarray
    second: np.ndarray

    @classmethod
    def of(cls, hidden: int = 16, seed: int = 0) -> Tiny:
        rng = np.random.default_rng(seed)
        first = rng.normal(size=(SIZE * SIZE * 3, hidden)).astype(np.float32) / SIZE
        return cls(first, rng.normal(size=(hidden, CLASSES)).astype(np.float32))

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The same by NumPy, (N, classes), from (N, H, W, 3)."""
        return np.maximum(images.reshape(len(images), -1) @ self.first, 0) @ self.second

    def model(self, *, batch="B", layout: str = "NHWC") -> onnx.ModelProto:
        constants = {"flat": np.array([-1, SIZE * SIZE * 3]), "first": self.first, "second": self.second}
        shape = [batch, SIZE, SIZE, 3] if layout == "NHWC" else [batch, 3, SIZE, SIZE]
        transpose = helper.make_node("Transpose", ["images"], ["nhwc"], name="embedding/nhwc", perm=[0, 2, 3, 1])
        nodes = [
            helper.make_node(
                "Reshape", ["images" if layout == "NHWC" else "nhwc", "flat"], ["rows"], "embedding/flat"
            ),
            helper.make_node("MatMul", ["rows", "first"], ["hidden"], "block00/mlp/fc1"),
            helper.make_node("Relu", ["hidden"], ["active"], "block00/mlp/gelu"),
            helper.make_node("MatMul", ["active", "second"], ["logits"], "head"),
        ]
        graph = helper.make_graph(
            nodes if layout == "NHWC" else [transpose, *nodes],
            "tiny",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, CLASSES])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model

    def graph(self, folder: Path, *, batch: int | None = None, layout: str = "NHWC", external=False) -> Graph:
        """The model saved in ``folder``, and its record."""
        path = folder / "tiny.onnx"
        extra = dict(save_as_external_data=True, location="tiny.onnx.data", size_threshold=100) if external else {}
        onnx.save(self.model(batch=batch or "B", layout=layout), path, **extra)
        preprocessing = Preprocessing(SIZE, layout=layout)
        return Graph(path, digest(path), 20, preprocessing, batch=batch, classes=CLASSES)


def variant_of(graph: Graph, recipe: Recipe | None = None, runtimes=("onnxruntime",)) -> Variant:
    """The graph's own file as a variant, under whatever recipe a test wants it to carry."""
    return Variant(graph.path, graph.digest, graph, recipe or Recipe(), graph.opset, tuple(runtimes))


def some_images(count: int, seed: int = 1) -> np.ndarray:
    """Standard normal noise, (count, SIZE, SIZE, 3) float32."""
    return np.random.default_rng(seed).standard_normal((count, SIZE, SIZE, 3), dtype=np.float32)
