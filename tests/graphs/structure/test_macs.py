"""Multiply-accumulates of single nodes, counted by hand."""

import pytest

from tests.graphs.onnx_file import inferred
from workbench.graphs.structure.macs import macs


@pytest.mark.parametrize(
    ("shapes", "node", "expected"),
    [
        (("2,3,4", "4,5", "2,3,5"), "MatMul(x, w)", 2 * 3 * 5 * 4),
        (("b,3,4", "4,5", "b,3,5"), "MatMul(x, w)", 3 * 5 * 4),  # of one image
        (("4,3", "4,5", "3,5"), "Gemm<transA = 1>(x, w)", 3 * 5 * 4),
        (("1,3,8,8", "16,3,4,4", "1,16,2,2"), "Conv<strides = [4, 4]>(x, w)", 16 * 2 * 2 * 3 * 4 * 4),
        (("2,3,4", "4,5", "2,3,5"), 'Einsum<equation = "bsd,dm->bsm">(x, w)', 2 * 3 * 4 * 5),
        (("1,7,2,8", "1,7,2,8", "1,2,7,7"), 'Einsum<equation = "bqhc,bkhc->bhqk">(x, w)', 2 * 7 * 7 * 8),
        (("2,3,4", "4,5", "2,3,5"), 'Einsum<equation = "...sd,dm->...sm">(x, w)', 2 * 3 * 4 * 5),
        (("2,3", "2,3", "2,3"), "Add(x, w)", 0),
        (("2,3", "2,3", "2,3"), "com.microsoft.BiasGelu(x, w)", None),
    ],
)
def test_multiply_accumulates_are_those_counted_by_hand(shapes, node, expected):
    x, w, y = shapes
    model = inferred(f"g (float[{x}] x, float[{w}] w) => (float[{y}] y) {{ y = {node} }}")
    assert macs(model.graph[0]) == expected
