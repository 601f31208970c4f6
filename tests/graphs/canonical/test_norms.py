"""LayerNorm and RMSNorm in every spelling become one operator; what only looks like a norm stays as it is."""

import numpy as np
import pytest

from tests.graphs.onnx_file import inferred, logits
from workbench.graphs.canonical import norms
from workbench.graphs.structure.values import array

RNG = np.random.default_rng(0)
CONSTANTS = {
    **{"gain": RNG.uniform(0.5, 2, 6), "shift": RNG.standard_normal(6), "eps": 1e-6, "two": 2, "zero": 0, "six": 6},
    **{"half": 0.5, "minus_half": -0.5, "large": 1e-3},
}
CONSTANTS = {name: np.asarray(value, np.float32) for name, value in CONSTANTS.items()}
CONSTANTS |= {"last": np.array([-1]), "tokens": np.array([1]), "column": np.array([0, 0, 1])}
MEAN = "m = ReduceMean(x, last) d = Sub(x, m)"
SCALED = "g = Mul(n, gain) y = Add(g, shift)"
LAYER_NORMS = {
    "a power of the deviation": f"""{MEAN} p = Pow(d, two) v = ReduceMean(p, last) u = Add(v, eps) r = Sqrt(u)
        n = Div(d, r)""",
    "a product and a reciprocal": f"""{MEAN} p = Mul(d, d) v = ReduceMean(p, last) u = Add(eps, v) r = Sqrt(u)
        i = Reciprocal(r) n = Mul(i, d)""",
    "a power of minus a half": f"""{MEAN} p = Mul(d, d) v = ReduceMean(p, last) u = Add(v, eps)
        i = Pow(u, minus_half) n = Mul(d, i)""",
    "mean of squares minus squared mean, as Flax": """m = ReduceMean(x, last) p = Mul(x, x) s = ReduceMean(p, last)
        q = Mul(m, m) w = Sub(s, q) v = Max(zero, w) u = Add(v, eps) r = Sqrt(u) d = Sub(x, m) n = Div(d, r)""",
    "sums and a division, as jax.numpy": """s = ReduceSum<keepdims = 0>(x, last) c = Reshape(s, column)
        m = Div(c, six) d = Sub(x, m) q = ReduceSumSquare<keepdims = 0>(d, last) e = Reshape(q, column)
        v = Div(e, six) u = Add(v, eps) r = Sqrt(u) n = Div(d, r)""",
    "another epsilon": f"{MEAN} p = Mul(d, d) v = ReduceMean(p, last) u = Add(v, large) r = Sqrt(u) n = Div(d, r)",
}
OTHERS = {
    "a mean over the tokens": "m = ReduceMean(x, tokens) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, last) "
    "u = Add(v, eps) r = Sqrt(u) n = Div(d, r)",
    "a root of a mean that divides nothing": "p = Mul(x, x) v = ReduceMean(p, last) u = Add(v, eps) r = Sqrt(u) "
    "n = Add(x, r)",
    "a norm of lengths": "p = Mul(x, x) v = ReduceSum(p, last) u = Add(v, eps) r = Sqrt(u) n = Div(x, r)",
    "a mean that another tensor is taken from": f"{MEAN} p = Mul(d, d) v = ReduceMean(p, last) u = Add(v, eps) "
    "r = Sqrt(u) n = Div(z, r)",
}
RMS = "p = Mul(x, x) v = ReduceMean(p, last) u = Add(v, eps) r = Sqrt(u) n = Div(x, r)"


def model(spelling, opset=20, batch="n"):
    text = f"g (float[{batch},5,6] x, float[{batch},5,6] z) => (float[{batch},5,6] y) {{ {spelling} {SCALED} }}"
    return inferred(
        text.replace(f", float[{batch},5,6] z", "") if "z" not in spelling.split() else text, opset, **CONSTANTS
    )


def kinds(found):
    return [node.op_type for node in found.graph]


@pytest.mark.parametrize("batch", ["n", 3])
@pytest.mark.parametrize("name", LAYER_NORMS)
def test_a_layernorm_is_recognised_by_what_it_computes(name, batch):
    before, after = (model(LAYER_NORMS[name], batch=batch) for _ in range(2))
    norms.canonicalize(after)
    assert kinds(after) == ["LayerNormalization"]
    (norm,) = after.graph
    assert norm.attributes["epsilon"].as_float() == pytest.approx(1e-3 if "another" in name else 1e-6, rel=1e-4)
    np.testing.assert_allclose(array(norm.inputs[1]), CONSTANTS["gain"], rtol=1e-6)
    np.testing.assert_allclose(array(norm.inputs[2]), CONSTANTS["shift"], rtol=1e-6)
    x = (RNG.standard_normal((3, 5, 6)) * [[[0.3], [1], [30], [1], [5]]]).astype(np.float32)
    np.testing.assert_allclose(logits(after, x), logits(before, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*OTHERS])
def test_what_computes_something_else_stays(name):
    after = model(OTHERS[name])
    before = kinds(after)
    assert norms.canonicalize(after) == 0
    assert kinds(after) == before


@pytest.mark.parametrize(("opset", "expected"), [(23, ["RMSNormalization", "Add"]), (20, None)])
def test_an_rmsnorm_becomes_an_operator_where_the_opset_has_one(opset, expected):
    after = model(RMS, opset)
    expected = expected or kinds(after)
    norms.canonicalize(after)
    assert kinds(after) == expected


def test_several_layernorms_of_one_stream_are_all_found():
    first = LAYER_NORMS["a product and a reciprocal"].replace("n = ", "h = ") + " k = Mul(h, gain)"
    second = (
        "m2 = ReduceMean(k, last) d2 = Sub(k, m2) p2 = Pow(d2, two) v2 = ReduceMean(p2, last) u2 = Add(v2, eps) "
    )
    after = model(f"{first} {second} r2 = Sqrt(u2) n = Div(d2, r2)")
    norms.canonicalize(after)
    assert kinds(after) == ["LayerNormalization"] * 2
