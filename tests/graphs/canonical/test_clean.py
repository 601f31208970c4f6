"""The clean-up: the form that it writes, that it changes no logit, and what it leaves alone."""

import dataclasses
import linecache
from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.graphs.onnx_file import fused_kinds, inferred, logits
from tests.graphs.references import answers, checkpoint, traced
from workbench.graphs.canonical import clean, gelu
from workbench.graphs.structure.values import array
from workbench.graphs.trace import trace
from workbench.models import vit
from workbench.models.tree import init

#: The canonical form of one block, in the order of computation.
BLOCK = (
    """
norm1 LayerNormalization, attention/qkv MatMul, attention/qkv/bias Add, attention/split/heads Reshape,
attention/split/order Transpose, attention/split Split, attention/split/k_transposed Transpose,
attention/scale Mul, attention/scores MatMul, attention/softmax Softmax, attention/context MatMul,
attention/merge/order Transpose, attention/merge Reshape, attention/proj MatMul, attention/proj/bias Add,
residual1 Add, norm2 LayerNormalization, mlp/fc1 MatMul, mlp/fc1/bias Add, mlp/gelu Gelu, mlp/fc2 MatMul,
mlp/fc2/bias Add, residual2 Add
""".replace("\n", " ")
    .strip()
    .split(", ")
)


def nodes(model):
    return {node.name: node for node in model.graph}


@pytest.mark.parametrize(
    ("kind", "opset", "batch"),  # every two values of different columns meet
    [
        ("token", 17, "dynamic"),
        ("token", 20, 1),
        ("token", 20, 3),
        ("gap", 20, "dynamic"),
        ("gap", 17, 1),
        ("gap", 17, 3),
        ("prelogits", 20, "dynamic"),
        ("prelogits", 17, 1),
        ("prelogits", 20, 3),
    ],
)
def test_a_clean_graph_has_the_same_logits_and_few_nodes(kind, opset, batch):
    images, _ = answers(kind)
    images = images if batch == "dynamic" else images[:batch]
    before = logits(traced(kind, opset, batch), images)
    model, _ = clean.clean(traced(kind, opset, batch))
    np.testing.assert_allclose(logits(model, images), before, rtol=0, atol=1e-5)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    counts = Counter(name.split("/")[0] for name in nodes(model) if name.startswith("block"))
    assert len(counts) == checkpoint(kind)[0].depth
    assert max(counts.values()) <= (28 if opset == 20 else 36)
    assert len(model.graph) - counts.total() <= 15


@pytest.mark.parametrize(("heads", "batch"), [(2, "dynamic"), (1, "dynamic"), (4, 1), (1, 1)])
def test_each_block_has_the_canonical_form_also_where_a_batch_or_a_head_is_alone(heads, batch):
    spec = dataclasses.replace(checkpoint("token")[0], heads=heads)
    model, _ = clean.clean(trace(spec, init(spec), 20, batch))
    drawn = [f"{n.name.partition('/')[2]} {n.op_type}" for n in model.graph if n.name.startswith("block01/")]
    assert sorted(drawn) == sorted(BLOCK)


def test_no_shape_is_computed_at_run_time_and_every_one_behind_the_open_batch_is_known():
    model, _ = clean.clean(traced())
    assert not set(kinds(model)) & {"Shape", "Expand", "Concat", "Gemm", "Einsum", "Squeeze", "Unsqueeze", "Slice"}
    for node in model.graph:
        if node.op_type == "Reshape":
            shape = array(node.inputs[1]).tolist()
            assert shape[0] == 0
            assert shape.count(-1) <= 1
        for value in node.outputs:
            batch, *rest = value.shape
            assert batch.value == "batch"
            assert all(isinstance(size, int) for size in rest)


def test_tensors_between_blocks_and_weights_are_named_by_place():
    spec, params = checkpoint("token")
    model, _ = clean.clean(traced())
    tensors = {value.name for node in model.graph for value in node.outputs}
    assert {"embedding/output", "block00/output", "block01/output", "norm/output", "logits"} <= tensors
    weights = {name: array(value) for name, value in model.graph.initializers.items()}
    block = params["Transformer"]["encoderblock_1"]
    np.testing.assert_array_equal(weights["block01/mlp/fc1/weight"], block["MlpBlock_0"]["Dense_0"]["kernel"])
    np.testing.assert_array_equal(weights["block01/norm2/scale"], block["LayerNorm_1"]["scale"])
    key = block["MultiHeadDotProductAttention_0"]["key"]
    columns = slice(spec.width, 2 * spec.width)
    qkv = weights["block01/attention/qkv/weight"], weights["block01/attention/qkv/bias"]
    np.testing.assert_array_equal(qkv[0][:, columns], np.asarray(key["kernel"]).reshape(spec.width, -1))
    np.testing.assert_array_equal(qkv[1][columns], np.asarray(key["bias"]).ravel())
    assert all(name.startswith(("embedding/", "block", "norm/", "pool/", "head/")) for name in weights)


def test_the_class_token_is_a_padded_row():
    model, _ = clean.clean(traced("token"))
    named = nodes(model)
    assert named["embedding/tokens"].op_type == "Pad"
    _, params = checkpoint("token")
    position = np.array(params["Transformer"]["posembed_input"]["pos_embedding"])
    position[:, :1] += np.asarray(params["cls"])
    np.testing.assert_array_equal(array(named["embedding/position"].inputs[1]), position)


def test_a_bias_that_is_zero_keeps_its_addition():
    model = traced()
    for name, value in list(model.graph.initializers.items()):
        if value.shape == (1, 1, 48) or value.shape == (48,):
            value.const_value = ir.tensor(np.zeros(tuple(value.shape), np.float32), name=name)
    cleaned, _ = clean.clean(model)
    assert "block00/attention/qkv/bias" in nodes(cleaned)


def test_every_node_of_an_export_says_which_line_of_the_model_it_comes_from():
    model, _ = clean.clean(trace(*checkpoint("token"), 20, "dynamic"))
    stamps = {name: node.metadata_props.get("workbench.source") for name, node in nodes(model).items()}
    assert all(stamp and stamp.startswith("models/vit.py:") for stamp in stamps.values()), stamps
    lines = {name: linecache.getline(vit.__file__, int(stamp.split(":")[1])) for name, stamp in stamps.items()}
    for place, layer in {
        "attention/qkv": "qkv",
        "attention/proj": "proj",
        "mlp/fc1": "Dense_0",
        "mlp/fc2": "Dense_1",
    }.items():
        assert f'name="{layer}"' in lines[f"block00/{place}"]
        assert f'name="{layer}"' in lines[f"block00/{place}/bias"]
    assert "softmax(" in lines["block00/attention/softmax"]
    assert "LayerNorm_1" in lines["block00/norm2"]
    assert 'name="head"' in lines["head"]


# ---- rules -------------------------------------------------------------------------------------------------------


def kinds(model):
    return [node.op_type for node in model.graph]


RNG = np.random.default_rng(0)
W, B, S3, B3 = (RNG.standard_normal(shape).astype(np.float32) for shape in ((3, 4), 4, 3, 3))
CONSTANTS = {
    **{
        "w": W,
        "wt": W.T.copy(),
        "b": B,
        "zeros": np.zeros(4, np.float32),
        "s3": S3,
        "b3": B3,
        "two": np.float32(2),
    },
    **{"s4": np.array([0.5, 1, 2, 3], np.float32), "eps": np.float32(1e-6)},
    **{"four": np.float32(4), "five": np.float32(5), "zero": np.int64(0), "first": np.array([1])},
    **{"rows": np.array([-1, 3]), "back": np.array([-1, 5, 4]), "turned": np.array([5, 6, 4])},
    **{"begin": np.array([0, 1]), "end": np.array([2, 2]), "one_image": np.array([1, 2]), "axes": np.array([0, 1])},
    "last": np.array([-1]),
}
#: What stands in a graph, the graph, and the operators that are left of it.
CASES = {
    "a Gemm": ("g (float[n,3] x) => (float[n,4] y) { y = Gemm(x, w, b) }", "MatMul Add"),
    "a Gemm that reads its weight transposed": (
        "g (float[n,3] x) => (float[n,4] y) { y = Gemm<transB = 1>(x, wt, b) }",
        "MatMul Add",
    ),
    "a Gemm whose bias is zero": ("g (float[n,3] x) => (float[n,4] y) { y = Gemm(x, w, zeros) }", "MatMul"),
    "a Gemm that scales": ("g (float[n,3] x) => (float[n,4] y) { y = Gemm<alpha = 2.0>(x, w, b) }", "Gemm"),
    "nn.Dense as jax2onnx writes it": (
        "g (float[n,5,3] x) => (float[n,5,4] y) { f = Reshape(x, rows) z = Gemm(f, w, b) y = Reshape(z, back) }",
        "MatMul Add",
    ),
    "a flat product whose rows are cut differently": (
        "g (float[6,5,3] x) => (float[5,6,4] y) { f = Reshape(x, rows) z = MatMul(f, w) y = Reshape(z, turned) }",
        "Reshape MatMul Reshape",
    ),
    "an Einsum that is a product": (
        'g (float[n,5,3] x) => (float[n,5,4] y) { y = Einsum<equation = "abc,cd->abd">(x, w) }',
        "MatMul",
    ),
    "an Einsum that transposes": (
        'g (float[n,5,3] x) => (float[n,4,5] y) { y = Einsum<equation = "abc,cd->adb">(x, w) }',
        "Einsum",
    ),
    "a sum over all tokens divided by their number": (
        "g (float[n,5,3] x) => (float[n,3] y) { s = ReduceSum<keepdims = 0>(x, first) y = Div(s, five) }",
        "ReduceMean",
    ),
    "a sum divided by another number": (
        "g (float[n,5,3] x) => (float[n,3] y) { s = ReduceSum<keepdims = 0>(x, first) y = Div(s, four) }",
        "ReduceSum Div",
    ),
    "the first token by way of a transposition": (
        "g (float[n,5,3] x) => (float[n,3] y) { m = Transpose<perm = [1,0,2]>(x) y = Gather(m, zero) }",
        "Gather",
    ),
    "the second token by way of a slice": (
        "g (float[2,5,3] x) => (float[2,3] y) { m = Slice(x, begin, end, axes) y = Squeeze(m, first) }",
        "Gather",
    ),
    "a slice that also cuts the batch": (
        "g (float[2,5,3] x) => (float[1,3] y) { m = Slice(x, begin, one_image, axes) y = Squeeze(m, first) }",
        "Slice Squeeze",
    ),
    "a dense layer with LayerScale": (
        "g (float[n,3] x) => (float[n,4] y) { m = MatMul(x, w) z = Add(m, b) y = Mul(z, s4) }",
        "MatMul Add",
    ),
    "a residual added to a LayerNorm without bias": (
        "g (float[n,3] x) => (float[n,3] y) { z = LayerNormalization(x, s3) y = Add(z, x) }",
        "LayerNormalization Add",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_rule_writes_what_was_meant_and_computes_the_same(case):
    text, expected = CASES[case]
    before, after = (inferred(text, **CONSTANTS) for _ in range(2))
    clean.apply_rules(after)
    assert kinds(after) == expected.split()
    shape = [size if isinstance(size, int) else 2 for size in before.graph.inputs[0].shape]
    x = RNG.standard_normal(shape).astype(np.float32)
    np.testing.assert_allclose(logits(after, x), logits(before, x), rtol=1e-5, atol=1e-6)


# ---- GELU --------------------------------------------------------------------------------------------------------

SPELLINGS = {
    "erf, torch's": ("none", "a = Div(x, root2) e = Erf(a) p = Add(e, one) m = Mul(x, p) y = Mul(m, half)"),
    "erf, scaled by a product": ("none", "a = Mul(x, r) e = Erf(a) p = Add(one, e) h = Mul(half, p) y = Mul(h, x)"),
    "tanh with a power": (
        "tanh",
        """c = Pow(x, three) b = Mul(small, c) i = Add(x, b) u = Mul(i, k) t = Tanh(u) p = Add(t, one)
        h = Mul(half, x) y = Mul(h, p)""",
    ),
    "tanh with products": (
        "tanh",
        """s = Mul(x, x) c = Mul(s, x) b = Mul(c, small) i = Add(b, x) u = Mul(k, i) t = Tanh(u) p = Add(one, t)
        h = Mul(p, half) y = Mul(x, h)""",
    ),
    "quick GELU, which is neither": (None, "b = Mul(x, q) e = Sigmoid(b) y = Mul(x, e)"),
    "SiLU": (None, "e = Sigmoid(x) y = Mul(x, e)"),
    "tanh alone": (None, "y = Tanh(x)"),
}
NUMBERS = {"root2": 2**0.5, "r": 0.5**0.5, "one": 1, "half": 0.5, "three": 3, "small": 0.044715, "q": 1.702}
NUMBERS["k"] = np.sqrt(2 / np.pi)


def spelled(spelling, opset):
    text = f"g (float[n,3] x) => (float[n,4] z) {{ {spelling} z = MatMul(y, w) }}"
    return inferred(text, opset, w=W, **{name: np.float32(value) for name, value in NUMBERS.items()})


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("name", SPELLINGS)
def test_gelu_is_recognised_by_what_it_computes(name, opset):
    kind, spelling = SPELLINGS[name]
    model = spelled(spelling, opset)
    before = logits(model, x := np.linspace(-5, 5, 30, dtype=np.float32).reshape(10, 3))
    found = gelu.canonicalize(model)
    assert found == (kind is not None)
    if kind is not None:
        drawn = [node for node in model.graph if node.op_type == "Gelu"]
        assert len(drawn) == (opset >= 20)
        assert all(node.attributes["approximate"].as_string() == kind for node in drawn)
    np.testing.assert_allclose(logits(model, x), before, rtol=0, atol=3e-6)


def test_at_opset_17_tanh_gelu_is_six_nodes_and_erf_gelu_fuses_in_onnxruntime(tmp_path):
    for name, expected in (("tanh with products", 6), ("erf, scaled by a product", 5)):
        model = spelled(SPELLINGS[name][1], 17)
        gelu.canonicalize(model)
        assert len(model.graph) == expected + 1
    assert "Gelu" in fused_kinds(model, tmp_path)


def test_gelu_spelled_with_a_sigmoid_stays_right_where_squares_overflow_half_precision():
    """x² is infinite in float16 beyond 256, and the sigmoid still is 0 or 1."""
    model = spelled(SPELLINGS["tanh with products"][1], 17)
    gelu.canonicalize(model)
    x = np.array([0, 300, -300, 3e4, -3e4], np.float16)
    values = {name: array(value).astype(np.float16) for name, value in model.graph.initializers.items()} | {"x": x}
    steps = {"Mul": np.multiply, "Add": np.add, "Sigmoid": lambda u: np.float16(1 / (1 + np.exp(-u.astype(float))))}
    with np.errstate(over="ignore"):
        for node in list(model.graph)[:-1]:  # the product of w follows
            values[node.outputs[0].name] = steps[node.op_type](*(values[v.name] for v in node.inputs))
    np.testing.assert_array_equal(values["y"], np.maximum(x, 0))
