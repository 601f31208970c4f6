"""Small encoders drawn by hand, block by block, to ask a builder what it does with their attention."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from workbench.records import Graph, Preprocessing, Recipe, Variant

TYPES = {
    "fp32": TensorProto.FLOAT,
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
    "int8": TensorProto.INT8,
    "fp8": TensorProto.FLOAT8E4M3FN,
}
ALL_SITES = ("query", "key", "value", "softmax", "context")
WIDTH = 64


@dataclass(frozen=True)
class Block:
    """One block: the shape of its attention, and which of its tensors carry Q/DQ in the type ``low``."""

    head_size: int = 64
    heads: int = 2
    low: str | None = None
    sites: tuple[str, ...] = ALL_SITES
    linear: str | None = None


class _Drawing:
    def __init__(self, high: str, opset: int):
        self.type, self.opset = TYPES[high], opset
        self.nodes, self.constants, self.random = [], [], np.random.default_rng(0)

    def constant(self, name, values, dtype=None):
        values = np.asarray(values)
        dtype = self.type if dtype is None else dtype
        self.constants.append(helper.make_tensor(name, dtype, values.shape, values.ravel().tolist()))
        return name

    def node(self, operator, inputs, name, **attributes):
        output = f"{name}:0"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=name, **attributes))
        return output

    def quantize(self, tensor, name, low, channels=None):
        """Q/DQ; below opset 19 it takes float32 only, so that casts stand around it."""
        if low is None:
            return tensor
        scale_type = self.type if self.opset >= 19 else TensorProto.FLOAT
        shape, axis = ((), {}) if channels is None else ((channels,), {"axis": 1})
        if scale_type != self.type:
            tensor = self.node("Cast", [tensor], f"{name}/to_float", to=TensorProto.FLOAT)
        scale = self.constant(f"{name}/scale", np.full(shape, 0.02), scale_type)
        zero = self.constant(f"{name}/zero", np.zeros(shape), TYPES[low])
        tensor = self.node("QuantizeLinear", [tensor, scale, zero], f"{name}/quantize", **axis)
        tensor = self.node("DequantizeLinear", [tensor, scale, zero], f"{name}/dequantize", **axis)
        return (
            self.node("Cast", [tensor], f"{name}/from_float", to=self.type) if scale_type != self.type else tensor
        )

    def dense(self, tensor, name, inputs, outputs, low):
        weight = self.constant(f"{name}/weight", self.random.normal(0, inputs**-0.5, (inputs, outputs)))
        tensor = self.quantize(tensor, f"{name}/input", low)
        weight = self.quantize(weight, f"{name}/kernel", low, channels=outputs)
        product = self.node("MatMul", [tensor, weight], name)
        return self.node("Add", [product, self.constant(f"{name}/bias", np.zeros(outputs))], f"{name}/add")

    def norm(self, tensor, name):
        gamma, beta = self.constant(f"{name}/gamma", np.ones(WIDTH)), self.constant(f"{name}/beta", np.zeros(WIDTH))
        return self.node("LayerNormalization", [tensor, gamma, beta], name, axis=-1, epsilon=1e-6)

    def attention(self, tensor, at, tokens, block):
        inner = block.heads * block.head_size
        integers = TensorProto.INT64
        split = self.constant(f"{at}/split/shape", [0, tokens, 3, block.heads, block.head_size], integers)
        merge = self.constant(f"{at}/merge/shape", [0, tokens, inner], integers)

        def site(tensor, name):
            return self.quantize(tensor, f"{at}/{name}", block.low if name in block.sites else None)

        joined = self.dense(tensor, f"{at}/qkv", WIDTH, 3 * inner, block.linear)
        joined = self.node("Reshape", [joined, split], f"{at}/split/reshape")
        joined = self.node("Transpose", [joined], f"{at}/split/transpose", perm=[2, 0, 3, 1, 4])
        query, key, value = (
            self.node(
                "Gather", [joined, self.constant(f"{at}/split/{i}", i, integers)], f"{at}/split/{name}", axis=0
            )
            for i, name in enumerate(("query", "key", "value"))
        )
        key = self.node("Transpose", [key], f"{at}/split/turn", perm=[0, 1, 3, 2])
        factor = self.constant(f"{at}/scale/factor", block.head_size**-0.5)
        query = self.node("Mul", [query, factor], f"{at}/scale")
        scores = site(self.node("MatMul", [site(query, "query"), site(key, "key")], f"{at}/scores"), "scores")
        shares = site(self.node("Softmax", [scores], f"{at}/softmax", axis=-1), "softmax")
        mixed = site(self.node("MatMul", [shares, site(value, "value")], f"{at}/context"), "context")
        mixed = self.node("Transpose", [mixed], f"{at}/merge/transpose", perm=[0, 2, 1, 3])
        mixed = self.node("Reshape", [mixed, merge], f"{at}/merge/reshape")
        return self.dense(mixed, f"{at}/proj", inner, WIDTH, block.linear)

    def block(self, tensor, name, tokens, block):
        attended = self.attention(self.norm(tensor, f"{name}/norm1"), f"{name}/attention", tokens, block)
        tensor = self.node("Add", [tensor, attended], f"{name}/residual1")
        hidden = self.dense(self.norm(tensor, f"{name}/norm2"), f"{name}/mlp/fc1", WIDTH, WIDTH, block.linear)
        hidden = self.node("Tanh", [hidden], f"{name}/mlp/gelu")
        hidden = self.dense(hidden, f"{name}/mlp/fc2", WIDTH, WIDTH, block.linear)
        return self.node("Add", [tensor, hidden], f"{name}/residual2")


def draw(folder: Path, blocks, *, tokens=50, high="fp16", opset=20, batch=None) -> Variant:
    """A variant of an encoder without patches: ``images`` (batch, tokens, 64) in, ``logits`` of that shape out."""
    drawing = _Drawing(high, opset)
    tensor = drawing.node("Cast", ["images"], "embedding/cast", to=drawing.type)
    for index, block in enumerate(blocks):
        tensor = drawing.block(tensor, f"block{index:02d}", tokens, block)
    drawing.nodes.append(helper.make_node("Cast", [tensor], ["logits"], name="head/cast", to=TensorProto.FLOAT))
    shape = [batch or "B", tokens, WIDTH]
    graph = helper.make_graph(
        drawing.nodes,
        "encoder",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        drawing.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model)
    path = folder / "variant.onnx"
    onnx.save(model, path)
    return variant_of(path, recipe_of(blocks, high), opset=opset, batch=batch)


def recipe_of(blocks, high: str) -> Recipe:
    """The recipe in whose variants these types occur."""
    low = next((block.low or block.linear for block in blocks if block.low or block.linear), None)
    return Recipe(precision=low, scope="attention", high_precision=high) if low else Recipe(precision=high)


def variant_of(
    path: Path, recipe: Recipe, *, opset=20, batch=None, runtimes=("tensorrt", "tensorrt-rtx")
) -> Variant:
    """The record of a file that no recipe made."""
    graph = Graph(path, "0" * 32, opset, Preprocessing(size=32), batch=batch)
    return Variant(path, "1" * 32, graph, recipe, opset, tuple(runtimes))
