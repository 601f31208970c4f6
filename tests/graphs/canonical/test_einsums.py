"""An Einsum that multiplies matrices becomes one MatMul between moves, and computes the same."""

import numpy as np
import pytest

from tests.graphs.onnx_file import inferred, logits
from workbench.graphs.canonical import einsums

RNG = np.random.default_rng(0)
WEIGHTS = {"w": (6, 2, 3), "b": (2, 3), "out": (2, 3, 6)}
WEIGHTS = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in WEIGHTS.items()}
#: Equation or nodes, the shape of x, that of y, and what is left.
CASES = {
    "scores": (
        "y = Einsum<equation = 'bqhd,bkhd->bhqk'>(x, x)",
        (2, 5, 2, 3),
        (2, 2, 5, 5),
        "Transpose Transpose MatMul",
    ),
    "scores of joined batches": (
        "y = Einsum<equation = 'bqd,bkd->bqk'>(x, x)",
        (2, 5, 3),
        (2, 5, 5),
        "Transpose MatMul",
    ),
    "scores with an ellipsis": (
        "y = Einsum<equation = '...qhd,...khd->...hqk'>(x, x)",
        (2, 5, 2, 3),
        (2, 2, 5, 5),
        "Transpose Transpose MatMul",
    ),
    "a layer per head": (
        "e = Einsum<equation = 'bsd,dhk->bshk'>(x, w) y = Add(e, b)",
        (2, 5, 6),
        (2, 5, 2, 3),
        "MatMul Add Reshape",
    ),
    "a layer that joins heads": (
        "y = Einsum<equation = 'bshk,hkd->bsd'>(x, out)",
        (2, 5, 2, 3),
        (2, 5, 6),
        "Reshape MatMul",
    ),
    "a trace, which is no product": ("y = Einsum<equation = 'bqd,bqd->bq'>(x, x)", (2, 5, 3), (2, 5), "Einsum"),
    "an outer product": ("y = Einsum<equation = 'bq,bk->bqk'>(x, x)", (2, 5), (2, 5, 5), "Einsum"),
}


@pytest.mark.parametrize("name", CASES)
def test_an_einsum_becomes_a_matmul_where_it_is_one(name):
    nodes, given, made, expected = CASES[name]
    shapes = [", ".join(map(str, shape)) for shape in (given, made)]
    text = f"g (float[{shapes[0]}] x) => (float[{shapes[1]}] y) {{ {nodes} }}".replace("'", '"')
    before, after = (inferred(text, **WEIGHTS) for _ in range(2))
    assert einsums.canonicalize(after) == (expected != "Einsum")
    assert [node.op_type for node in after.graph] == expected.split()
    x = RNG.standard_normal(given).astype(np.float32)
    np.testing.assert_allclose(logits(after, x), logits(before, x), rtol=0, atol=1e-5)
