"""Small Vision Transformers drawn node by node with ``onnx.helper``, named as ``workbench.places`` says.

They do not pass through the exporter, so what a test of a rewrite finds wrong lies in the rewrite.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from workbench.digests import digest
from workbench.records import Graph, ModelSpec, Preprocessing

TINY = ModelSpec("drawn", image_size=16, patch=4, width=32, depth=3, heads=2, mlp=64, classes=10)


@dataclass
class _Drawing:
    nodes: list = field(default_factory=list)
    weights: dict = field(default_factory=dict)

    def op(self, kind, name, *inputs, output=None, **attributes):
        output = output or f"{name}:out"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=name, **attributes))
        return output

    def weight(self, name, value):
        self.weights[name] = np.asarray(value)
        return name

    def dense(self, name, x, kernel, bias):
        product = self.op("MatMul", name, x, self.weight(f"{name}/kernel", kernel))
        return self.op("Add", f"{name}/bias", product, self.weight(f"{name}/bias_value", bias))

    def norm(self, name, x, width, rng):
        scale = self.weight(f"{name}/scale", (1 + 0.2 * rng.standard_normal(width)).astype(np.float32))
        shift = self.weight(f"{name}/shift", (0.2 * rng.standard_normal(width)).astype(np.float32))
        return self.op("LayerNormalization", name, x, scale, shift, axis=-1, epsilon=1e-6)

    def reshape(self, name, x, shape):
        return self.op("Reshape", name, x, self.weight(f"{name}/shape", np.array(shape, np.int64)))

    def gelu(self, name, x, opset):
        if opset >= 20:
            return self.op("Gelu", name, x, approximate="tanh")
        f32 = np.float32
        cube = self.op("Pow", f"{name}/cube", x, self.weight(f"{name}/three", f32(3)))
        cube = self.op("Mul", f"{name}/small", cube, self.weight(f"{name}/c", f32(0.044715)))
        inner = self.op("Add", f"{name}/inner", x, cube)
        inner = self.op("Mul", f"{name}/root", inner, self.weight(f"{name}/r", f32(np.sqrt(2 / np.pi))))
        gate = self.op("Tanh", f"{name}/tanh", inner)
        gate = self.op("Add", f"{name}/one", gate, self.weight(f"{name}/one_value", f32(1)))
        half = self.op("Mul", f"{name}/half", x, self.weight(f"{name}/half_value", f32(0.5)))
        return self.op("Mul", name, half, gate)

    def block(self, name, x, spec, opset, rng):
        width, heads, size = spec.width, spec.heads, spec.head_size
        y = self.norm(f"{name}/norm1", x, width, rng)
        y = self.dense(f"{name}/attention/qkv", y, *_kernel(rng, width, 3 * width))
        y = self.reshape(f"{name}/attention/split/heads", y, (0, 0, 3, heads, size))
        y = self.op("Transpose", f"{name}/attention/split/order", y, perm=[2, 0, 3, 1, 4])
        parts = [f"{name}/attention/{part}" for part in ("q5", "k5", "v5")]
        ones = self.weight(f"{name}/attention/split/sizes", np.array([1, 1, 1], np.int64))
        self.nodes.append(helper.make_node("Split", [y, ones], parts, name=f"{name}/attention/split", axis=0))
        axis = self.weight(f"{name}/attention/split/axis", np.array([0], np.int64))
        q, k, v = (
            self.op("Squeeze", f"{name}/attention/split/{letter}", part, axis) for letter, part in zip("qkv", parts)
        )
        k = self.op("Transpose", f"{name}/attention/split/k_transposed", k, perm=[0, 1, 3, 2])
        y = self.op("MatMul", f"{name}/attention/scores", q, k)
        scale = self.weight(f"{name}/attention/scale/value", np.float32(size**-0.5))
        y = self.op("Mul", f"{name}/attention/scale", y, scale)
        y = self.op("Softmax", f"{name}/attention/softmax", y, axis=-1)
        y = self.op("MatMul", f"{name}/attention/context", y, v)
        y = self.op("Transpose", f"{name}/attention/merge/order", y, perm=[0, 2, 1, 3])
        y = self.reshape(f"{name}/attention/merge", y, (0, 0, width))
        y = self.dense(f"{name}/attention/proj", y, *_kernel(rng, width, width))
        x = self.op("Add", f"{name}/residual1", x, y)
        y = self.norm(f"{name}/norm2", x, width, rng)
        y = self.dense(f"{name}/mlp/fc1", y, *_kernel(rng, width, spec.mlp))
        y = self.gelu(f"{name}/mlp/gelu", y, opset)
        y = self.dense(f"{name}/mlp/fc2", y, *_kernel(rng, spec.mlp, width))
        return self.op("Add", f"{name}/residual2", x, y, output=f"{name}/output")


def _kernel(rng, rows, columns):
    kernel = rng.standard_normal((rows, columns)) / np.sqrt(rows)
    kernel *= rng.uniform(0.3, 1.5, columns)  # channels of unequal size, so that per-channel scales matter
    return kernel.astype(np.float32), (0.1 * rng.standard_normal(columns)).astype(np.float32)


def draw(folder, spec=TINY, opset=20, batch=None, seed=0, edit=None) -> Graph:
    """A random ViT with mean pooling as an ONNX file.

    Args:
        folder: where the file goes.
        spec: its shape.
        opset: 17 spells the GELU out; 20 has the operator.
        batch: None for a symbolic batch.
        seed: of the weights.
        edit: called with the dictionary of weights, which it may change.
    """
    rng, drawing = np.random.default_rng(seed), _Drawing()
    kernel = rng.standard_normal((spec.width, 3, spec.patch, spec.patch)) / np.sqrt(3 * spec.patch**2)
    y = drawing.op("Transpose", "embedding/layout", "images", perm=[0, 3, 1, 2])
    y = drawing.op(
        "Conv",
        "embedding/patches",
        y,
        drawing.weight("embedding/kernel", kernel.astype(np.float32)),
        drawing.weight("embedding/bias", np.zeros(spec.width, np.float32)),
        strides=[spec.patch] * 2,
        kernel_shape=[spec.patch] * 2,
    )
    y = drawing.reshape("embedding/flatten", y, (0, 0, -1))
    y = drawing.op("Transpose", "embedding/order", y, perm=[0, 2, 1])
    position = 0.2 * rng.standard_normal((1, spec.grid**2, spec.width))
    position = drawing.weight("embedding/position/value", position.astype(np.float32))
    y = drawing.op("Add", "embedding/position", y, position, output="embedding/output")
    for index in range(spec.depth):
        y = drawing.block(f"block{index:02d}", y, spec, opset, rng)
    y = drawing.norm("norm", y, spec.width, rng)
    axis = drawing.weight("pool/axis", np.array([1], np.int64))
    # ReduceMean takes its axes as an input from opset 18 on.
    pooled = {"axes": [1]} if opset < 18 else {}
    y = drawing.op("ReduceMean", "pool", y, *([] if pooled else [axis]), keepdims=0, **pooled)
    kernel, bias = _kernel(rng, spec.width, spec.classes)
    product = drawing.op("MatMul", "head", y, drawing.weight("head/kernel", 3 * kernel))
    drawing.op("Add", "head/bias", product, drawing.weight("head/bias_value", bias), output="logits")
    if edit:
        edit(drawing.weights)
    return _save(folder, spec, opset, batch, drawing)


def _save(folder, spec, opset, batch, drawing) -> Graph:
    size = spec.image_size
    used = {name for node in drawing.nodes for name in node.input}
    model = helper.make_model(
        helper.make_graph(
            drawing.nodes,
            "drawn",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch or "batch", size, size, 3])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch or "batch", spec.classes])],
            [numpy_helper.from_array(value, name) for name, value in drawing.weights.items() if name in used],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
    )
    onnx.checker.check_model(model, full_check=True)
    path = Path(folder) / f"drawn-{opset}-{digest(model.SerializeToString())[:8]}.onnx"
    onnx.save(model, path)
    return Graph(
        path=path,
        digest=digest(path),
        opset=opset,
        preprocessing=Preprocessing(size=size),
        spec=spec,
        batch=batch,
        classes=spec.classes,
    )


def scaled(factors: dict, at=...):
    """An edit of weights for ``draw``: those named are multiplied, only at one index where it is given."""

    def edit(weights):
        for name, factor in factors.items():
            weights[name][at] *= np.float32(factor)

    return edit


def outlier(norm: str, product: str, factor: float) -> dict:
    """Factors of one channel after which a LayerNorm writes it larger and the function stays the same."""
    return {f"{norm}/scale": factor, f"{norm}/shift": factor, f"{product}/kernel": 1 / factor}


def retouch(graph: Graph, folder, change, domain=None) -> Graph:
    """A copy of a file in which ``change`` rewired the nodes, given the ONNX graph and its nodes by name.

    Args:
        graph: what is copied.
        folder: where the copy goes.
        change: what rewires it.
        domain: of operators that are not ONNX's, where ``change`` writes some.
    """
    proto = onnx.load(graph.path)
    proto.opset_import.extend([helper.make_opsetid(domain, 1)] if domain else [])
    change(proto.graph, {node.name: node for node in proto.graph.node})
    path = Path(folder) / "retouched.onnx"
    onnx.save(proto, path)
    return replace(graph, path=path, digest=digest(path))


def jax_parameters(graph: Graph) -> tuple[ModelSpec, dict]:
    """The same model for JAX: vit_jax's tree of a drawn graph's weights; it pools by the mean."""
    w = {t.name: numpy_helper.to_array(t) for t in onnx.load(graph.path).graph.initializer}
    spec = replace(graph.spec, classifier="gap")
    heads = (spec.width, spec.heads, spec.head_size)

    def dense(name):
        return {"kernel": w[f"{name}/kernel"], "bias": w[f"{name}/bias_value"]}

    def norm(name):
        return {"scale": w[f"{name}/scale"], "bias": w[f"{name}/shift"]}

    def block(name):
        qkv, proj = dense(f"{name}/attention/qkv"), dense(f"{name}/attention/proj")
        kernels, biases = np.split(qkv["kernel"], 3, axis=1), np.split(qkv["bias"], 3)
        attention = {
            part: {"kernel": kernel.reshape(heads), "bias": bias.reshape(heads[1:])}
            for part, kernel, bias in zip(("query", "key", "value"), kernels, biases)
        }
        attention["out"] = {"kernel": proj["kernel"].reshape(*heads[1:], spec.width), "bias": proj["bias"]}
        return {
            "LayerNorm_0": norm(f"{name}/norm1"),
            "MultiHeadDotProductAttention_0": attention,
            "LayerNorm_1": norm(f"{name}/norm2"),
            "MlpBlock_0": {"Dense_0": dense(f"{name}/mlp/fc1"), "Dense_1": dense(f"{name}/mlp/fc2")},
        }

    transformer = {f"encoderblock_{i}": block(f"block{i:02d}") for i in range(spec.depth)}
    transformer["posembed_input"] = {"pos_embedding": w["embedding/position/value"]}
    transformer["encoder_norm"] = norm("norm")
    embedding = {"kernel": w["embedding/kernel"].transpose(2, 3, 1, 0), "bias": w["embedding/bias"]}
    return spec, {"embedding": embedding, "Transformer": transformer, "head": dense("head")}
