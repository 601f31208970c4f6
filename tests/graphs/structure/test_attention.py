"""Attention is two products around a softmax, or one operator; nothing else is taken for it."""

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
import pytest

from workbench.graphs.quantization.qdq_sites import attention_products
from workbench.graphs.structure.attention import find_attentions

ATTENTION = """s = MatMul(q, k) m = Mul(s, scale) p = Softmax(m) y = MatMul(p, v)"""
OPERATOR = "g (float[n,2,5,4] q, float[n,2,5,4] k, float[n,2,5,4] v) => (float[n,2,5,4] y) {{ y = {}(q, k, v) }}"
CONSTANTS = {
    "scale": np.float32(0.25),
    "nothing": np.zeros((5, 5), np.float32),
    "causal": np.triu(np.full((5, 5), -1e4, np.float32), 1),
    "zero": np.float32(0),
}


def model(nodes, outputs="float[n,2,5,4] y", opset=23):
    """Two heads of four channels over five tokens, in ONNX's textual form."""
    inputs = "float[n,2,5,4] q, float[n,2,4,5] k, float[n,2,5,4] v"
    return parsed(f"g ({inputs}) => ({outputs}) {{ {nodes} }}", opset)


def parsed(text, opset=23):
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]> {text}')
    used = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in CONSTANTS.items() if k in used)
    loaded = ir.from_proto(proto)
    passes.ShapeInferencePass()(loaded)
    return loaded


def test_an_attention_knows_its_tensors_its_scale_and_its_shape():
    (found,) = find_attentions(model(ATTENTION))
    assert [found.query.name, found.key.name, found.value.name, found.result.name] == ["q", "k", "v", "y"]
    assert [node.op_type for node in (found.scores, found.softmax, found.context)] == [
        "MatMul",
        "Softmax",
        "MatMul",
    ]
    assert [node.op_type for node in found.between] == ["Mul"]
    assert (found.heads, found.head_size, found.tokens) == (2, 4, 5)
    assert (found.scale, found.is_plain) == (0.25, True)


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
    assert attention_products(model(nodes)) == []


def test_only_the_products_around_the_softmax_are_quantized_as_attention():
    beside = "g = MatMul(q, k) h = MatMul(g, v)"
    both = model(f"{ATTENTION} {beside}", "float[n,2,5,4] y, float[n,2,5,4] h")
    assert [node.outputs[0].name for node in attention_products(both)] == ["s", "y"]


@pytest.mark.parametrize(
    ("nodes", "scale", "is_plain"),
    [
        ("s = MatMul(q, k) p = Softmax(s) y = MatMul(p, v)", 1, True),
        ("s = MatMul(q, k) m = Div(s, scale) p = Softmax(m) y = MatMul(p, v)", 4, True),
        ("s = MatMul(q, k) m = Mul(scale, s) a = Add(m, nothing) p = Softmax(a) y = MatMul(p, v)", 0.25, True),
        ("s = MatMul(q, k) m = Mul(s, scale) a = Add(m, causal) p = Softmax(a) y = MatMul(p, v)", 0.25, False),
        ("s = MatMul(q, k) t = Tanh(s) p = Softmax(t) y = MatMul(p, v)", 1, False),
        ("s = MatMul(q, k) p = Softmax<axis = 1>(s) y = MatMul(p, v)", 1, False),
        (f"{ATTENTION.split(' y')[0]} i = IsNaN(p) w = Where(i, zero, p) y = MatMul(w, v)", 0.25, True),
        (f"{ATTENTION.split(' y')[0]} d = Mul(p, scale) y = MatMul(d, v)", 0.25, False),
    ],
)
def test_an_attention_is_plain_where_only_a_scale_stands_between_its_products(nodes, scale, is_plain):
    (found,) = find_attentions(model(nodes))
    assert (found.scale, found.is_plain) == (scale, is_plain)


def test_probabilities_that_are_read_elsewhere_are_not_plain():
    (found,) = find_attentions(model(f"{ATTENTION} r = Relu(p)", "float[n,2,5,4] y, float[n,2,5,5] r"))
    assert not found.is_plain


@pytest.mark.parametrize(
    ("operator", "scale", "is_plain"),
    [("Attention", None, True), ("Attention<scale = 0.5>", 0.5, True), ("Attention<is_causal = 1>", None, False)],
)
def test_one_operator_is_an_attention_too(operator, scale, is_plain):
    (found,) = find_attentions(parsed(OPERATOR.format(operator)))
    assert found.is_operator
    assert (found.heads, found.head_size, found.tokens) == (2, 4, 5)
    assert (found.scale, found.is_plain) == (scale, is_plain)
