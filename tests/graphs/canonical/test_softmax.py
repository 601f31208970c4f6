"""A softmax in small operators, as attention has it, and quotients that are none."""

from collections import Counter

import onnx
import onnx_ir as ir
import pytest

from tests.graphs import spellings
from workbench.graphs.canonical import softmax
from workbench.graphs.import_ import import_onnx
from workbench.graphs.structure.attention import find_attentions


def exponential(d, x, axis, maximum):
    if maximum:
        x = d.op("Sub", x, d.op("ReduceMax", x, d.ints(axis), keepdims=1))
    return d.op("Exp", x)


def divided(d, x, axis=-1, maximum=True):
    e = exponential(d, x, axis, maximum)
    return d.op("Div", e, d.op("ReduceSum", e, d.ints(axis), keepdims=1))


def multiplied(d, x):
    e = exponential(d, x, -1, True)
    return d.op("Mul", d.op("Reciprocal", d.op("ReduceSum", e, d.ints(-1), keepdims=1)), e)


SPELLINGS = {
    "with the maximum taken off": divided,
    "over the last of four axes": lambda d, x: divided(d, x, axis=3),
    "without the maximum": lambda d, x: divided(d, x, maximum=False),
    "by a reciprocal": multiplied,
}


def vit(spelling):
    """Two blocks whose softmax is spelled out."""
    d = spellings.Drawing()

    def attention(q, k, v, tokens=spellings.TOKENS, **_):
        product = d.op("Mul", d.op("MatMul", q, d.turn(k, 0, 1, 3, 2)), d.number(spellings.SIZE**-0.5))
        context = d.op("MatMul", spelling(d, product), v)
        return d.reshape(d.turn(context, 0, 2, 1, 3), -1, tokens, spellings.WIDTH)

    d.attention = attention
    return d.model(d.head(d.block(d.block(d.embed()))))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelled_softmax_is_attentions_softmax(spelling, tmp_path):
    path = tmp_path / "spelled.onnx"
    onnx.save(vit(SPELLINGS[spelling]), path)
    graph = import_onnx(path, tmp_path / "workspace")
    kinds = Counter(node.op_type for node in onnx.load(graph.path).graph.node)
    assert (kinds["Softmax"], kinds["Exp"], kinds["ReduceSum"], kinds["ReduceMax"]) == (2, 0, 0, 0)
    assert len(find_attentions(ir.load(graph.path))) == 2
    assert graph.parity.max_abs_error < 1e-5
    assert (graph.spec.depth, graph.spec.heads) == (2, spellings.HEADS)


@pytest.mark.parametrize(
    "quotient",
    [
        lambda d, x: d.op("Div", d.op("Exp", x), d.op("ReduceSum", d.op("Exp", d.op("Neg", x)), d.ints(-1))),
        lambda d, x: d.op("Div", (e := d.op("Exp", x)), d.op("ReduceSum", e, d.ints(1, 2))),
        lambda d, x: d.op("Div", d.op("ReduceSum", (e := d.op("Exp", x)), d.ints(-1)), e),
    ],
    ids=["of other exponentials", "over two axes", "upside down"],
)
def test_another_quotient_stays(quotient):
    d = spellings.Drawing()
    made = d.model(d.head(quotient(d, d.embed())))
    model = ir.from_proto(made)
    before = [node.op_type for node in model.graph]
    assert softmax.canonicalize(model) == 0
    assert [node.op_type for node in model.graph] == before


def test_another_maximum_than_that_of_the_axis_is_kept():
    """exp(x - the largest of each column) over rows: the maximum is an argument of the softmax like any other."""
    d = spellings.Drawing()
    x = d.embed()
    e = d.op("Exp", d.op("Sub", x, d.op("ReduceMax", x, d.ints(1), keepdims=1)))
    y = d.op("Div", e, d.op("ReduceSum", e, d.ints(-1), keepdims=1))
    model = ir.from_proto(d.model(d.head(y)))
    assert softmax.canonicalize(model) == 1
    kinds = Counter(node.op_type for node in model.graph)
    assert (kinds["Softmax"], kinds["Sub"], kinds["ReduceMax"], kinds["Exp"]) == (1, 1, 1, 0)
