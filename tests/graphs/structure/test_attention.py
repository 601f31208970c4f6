"""Attention is two products around a softmax, or one operator; nothing else is taken for it."""

import numpy as np
import pytest

from tests.graphs.onnx_file import inferred
from workbench.graphs.quantization.qdq_sites import attention_products
from workbench.graphs.structure.attention import find_attentions

SOFTMAX = "s = MatMul(q, k) m = Mul(s, scale) p = Softmax(m)"
ATTENTION = f"{SOFTMAX} y = MatMul(p, v)"
CONSTANTS = {
    "scale": np.float32(0.25),
    "nothing": np.zeros((5, 5), np.float32),
    "causal": np.triu(np.full((5, 5), -1e4, np.float32), 1),
    "zero": np.float32(0),
}


def model(nodes, key="2,4,5", outputs="float[n,2,5,4] y"):
    """Two heads of four channels over five tokens; the products read the key transposed, one operator does not."""
    inputs = f"float[n,2,5,4] q, float[n,{key}] k, float[n,2,5,4] v"
    return inferred(f"g ({inputs}) => ({outputs}) {{ {nodes} }}", 23, **CONSTANTS)


def test_an_attention_knows_its_tensors_and_its_nodes():
    (found,) = find_attentions(model(ATTENTION))
    assert [found.query.name, found.key.name, found.value.name, found.result.name] == ["q", "k", "v", "y"]
    nodes = (found.scores, *found.between, found.softmax, found.context)
    assert [node.op_type for node in nodes] == ["MatMul", "Mul", "Softmax", "MatMul"]


@pytest.mark.parametrize(
    "nodes",
    [
        "s = MatMul(q, k) y = MatMul(s, v)",  # linear attention
        "s = MatMul(q, k) r = Relu(s) y = MatMul(r, v)",
        "s = MatMul(q, k) a = Sigmoid(q) y = Mul(a, v)",  # bilinear gating
        "p = Softmax(q) y = Add(p, v)",  # a softmax between no products
        "s = MatMul(q, k) p = Softmax(s) t = ReduceMean(p) y = Mul(t, v)",
    ],
)
def test_products_of_two_activations_without_a_softmax_between_them_are_no_attention(nodes):
    assert find_attentions(model(nodes)) == []
    both = model(f"{nodes} a1 = MatMul(q, k) a2 = Softmax(a1) z = MatMul(a2, v)", outputs="float y, float z")
    assert [node.outputs[0].name for node in attention_products(both)] == ["a1", "z"]


@pytest.mark.parametrize(
    ("nodes", "scale", "is_plain"),
    [
        (ATTENTION, 0.25, True),
        ("s = MatMul(q, k) p = Softmax(s) y = MatMul(p, v)", 1, True),
        ("s = MatMul(q, k) m = Div(s, scale) p = Softmax(m) y = MatMul(p, v)", 4, True),
        ("s = MatMul(q, k) m = Mul(scale, s) a = Add(m, nothing) p = Softmax(a) y = MatMul(p, v)", 0.25, True),
        ("s = MatMul(q, k) m = Mul(s, scale) a = Add(m, causal) p = Softmax(a) y = MatMul(p, v)", 0.25, False),
        ("s = MatMul(q, k) t = Tanh(s) p = Softmax(t) y = MatMul(p, v)", 1, False),
        ("s = MatMul(q, k) p = Softmax<axis = 1>(s) y = MatMul(p, v)", 1, False),
        (f"{SOFTMAX} i = IsNaN(p) w = Where(i, zero, p) y = MatMul(w, v)", 0.25, True),
        (f"{SOFTMAX} d = Mul(p, scale) y = MatMul(d, v)", 0.25, False),
        (f"{ATTENTION} r = Relu(p)", 0.25, False),  # the probabilities are read elsewhere
        ("y = Attention(q, k, v)", None, True),
        ("y = Attention<scale = 0.5>(q, k, v)", 0.5, True),
        ("y = Attention<is_causal = 1>(q, k, v)", None, False),
    ],
)
def test_an_attention_is_plain_where_only_a_scale_stands_between_its_products(nodes, scale, is_plain):
    operator = "Attention" in nodes
    outputs = "float[n,2,5,4] y" + (", float[n,2,5,5] r" if "r = " in nodes else "")
    (found,) = find_attentions(model(nodes, "2,5,4" if operator else "2,4,5", outputs))
    assert (found.scale, found.is_plain, found.is_operator) == (scale, is_plain, operator)
    assert (found.heads, found.head_size, found.tokens) == (2, 4, 5)
