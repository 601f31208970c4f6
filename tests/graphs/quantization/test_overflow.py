"""Squares and sums stay in float32 wherever they stand, products never do for where they stand."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import workbench as wb
from tests.graphs import spellings
from tests.graphs.onnx_file import element_types, inferred
from workbench.graphs.quantization.overflow import overflowing

CONSTANTS = {"eps": np.float32(1e-6), "gain": np.ones(6, np.float32), "two": np.float32(2), "half": np.float32(0.5)}
CONSTANTS |= {"last": np.array([-1]), "w": np.ones((6, 6), np.float32), "c": np.float32(0.044715)}
#: Nodes, and the outputs of those that stay in float32.
CASES = {
    "RMSNorm in small operators": (
        "a = Mul(x, x) b = ReduceMean(a, last) d = Add(b, eps) e = Sqrt(d) f = Div(x, e) g = Mul(f, gain) "
        "y = MatMul(g, w)",
        "abdefg",
    ),
    "the length of q, as Swin V2": ("a = ReduceL2(x, last) b = Div(x, a) y = MatMul(b, w)", "ab"),
    "a square by itself": ("a = MatMul(x, w) b = Relu(a) d = Pow(b, two) y = MatMul(d, w)", "d"),
    "a residual behind a norm": ("a = LayerNormalization(x, gain) b = Add(x, a) y = MatMul(b, w)", "a"),
    "a gate, which is no square": ("a = Sigmoid(x) b = Mul(x, a) y = MatMul(b, w)", ""),
    "a root by a power": ("a = Pow(x, half) y = MatMul(a, w)", ""),
}


@pytest.mark.parametrize("name", CASES)
def test_what_can_overflow_is_found_by_what_it_computes(name):
    nodes, expected = CASES[name]
    found = overflowing(inferred(f"g (float[n,5,6] x) => (float[n,5,6] y) {{ {nodes} }}", **CONSTANTS))
    assert "".join(sorted(node.outputs[0].name for node in found)) == expected


def rms_vit(outside):
    """A ViT whose blocks normalise by a spelled-out RMSNorm, with a stream of about ``outside``."""
    d = spellings.Drawing()

    def norm(x):
        mean = d.op("ReduceMean", d.op("Mul", x, x), d.ints(-1))
        return d.op("Div", x, d.op("Sqrt", d.op("Add", mean, d.number(1e-6))))

    d.norm = norm
    x = d.op("Add", d.embed(), d.number(outside))
    return d.model(d.dense(d.op("ReduceMean", norm(d.block(x)), d.ints(1), keepdims=0), 8, 5))


def test_a_spelled_out_rmsnorm_of_a_large_stream_survives_fp16(tmp_path):
    onnx.save(rms_vit(600.0), tmp_path / "rms.onnx")  # 600² is beyond 65,504
    graph = wb.import_onnx(tmp_path / "rms.onnx", tmp_path)
    variant = wb.apply_recipe(graph, wb.Recipe("fp16"), tmp_path)
    types = element_types(variant.path)
    nodes = onnx.load(variant.path).graph.node
    means = [node for node in nodes if node.op_type == "ReduceMean"]
    assert {types[node.input[0]] for node in means} == {TensorProto.FLOAT}
    products = [node for node in nodes if node.op_type == "MatMul"]
    assert {types[node.output[0]] for node in products} == {TensorProto.FLOAT16}
    images = np.random.default_rng(0).standard_normal((2, 16, 16, 3), dtype=np.float32)
    diff = wb.diff(variant, graph, images)
    assert np.isfinite([row.error for row in diff.rows]).all()


def test_an_infinite_mask_is_exact_in_fp16_and_a_finite_weight_beyond_it_is_named(tmp_path):
    for value, told in ((-np.inf, 0), (-1e9, 2)):
        d = spellings.Drawing()
        hidden = np.zeros((1, 1, 16, 16), np.float32)
        hidden[..., 12:] = value
        mask = d.weight(hidden)
        masked = {"scores": lambda s, d=d, mask=mask: d.op("Add", s, mask)}
        model = d.model(d.head(d.block(d.block(d.embed(), **masked), **masked)))
        onnx.save(model, tmp_path / f"{told}.onnx")
        graph = wb.import_onnx(tmp_path / f"{told}.onnx", tmp_path / str(told))
        variant = wb.apply_recipe(graph, wb.Recipe("fp16"), tmp_path / str(told))
        assert sum("largest weight" in note for note in variant.notes) == told, variant.notes
