"""Small ViTs in the spellings of the field, drawn under names that say nothing: structure must be found by role.

Images are 16 x 16 with patches of 4: 16 tokens of 8 channels, two heads, five classes.
"""

import itertools

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GRID, TOKENS, WIDTH, HEADS, MLP, CLASSES = 4, 16, 8, 2, 16, 5
SIZE = WIDTH // HEADS


class Drawing:
    """Nodes and random weights; each method returns the name of a tensor."""

    def __init__(self, seed=0):
        self.nodes, self.weights, self.count = [], {}, itertools.count()
        self.rng = np.random.default_rng(seed)

    def op(self, kind, *inputs, outputs=1, **attributes):
        number = next(self.count)
        names = [f"v{number}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=f"n{number}", **attributes))
        return names[0] if outputs == 1 else names

    def weight(self, value):
        name = f"w{next(self.count)}"
        self.weights[name] = np.asarray(value)
        return name

    def random(self, *shape, scale=0.5):
        return self.weight((scale * self.rng.standard_normal(shape)).astype(np.float32))

    def number(self, value):
        return self.weight(np.float32(value))

    def ints(self, *values):
        return self.weight(np.array(values, np.int64))

    def dense(self, x, inputs, outputs):
        return self.op("Add", self.op("MatMul", x, self.random(inputs, outputs)), self.random(outputs, scale=0.1))

    def norm(self, x):
        return self.op("LayerNormalization", x, self.random(WIDTH, scale=1), self.random(WIDTH), axis=-1)

    def reshape(self, x, *shape):
        return self.op("Reshape", x, self.ints(*shape))

    def turn(self, x, *order):
        return self.op("Transpose", x, perm=order)

    def heads(self, x, tokens=TOKENS):
        return self.turn(self.reshape(x, -1, tokens, HEADS, SIZE), 0, 2, 1, 3)

    def attention(self, q, k, v, tokens=TOKENS, scores=lambda s: s, probabilities=lambda p: p):
        """softmax(q kᵀ) v of heads, merged; two functions may change what stands between."""
        product = self.op("Mul", self.op("MatMul", q, self.turn(k, 0, 1, 3, 2)), self.number(SIZE**-0.5))
        p = probabilities(self.op("Softmax", scores(product), axis=-1))
        return self.reshape(self.turn(self.op("MatMul", p, v), 0, 2, 1, 3), -1, tokens, WIDTH)

    def self_attention(self, x, tokens=TOKENS, turned=lambda q: q, **changes):
        """Attention of a normalised stream, with its projections; ``turned`` changes q and k."""
        q, k, v = (self.heads(self.dense(x, WIDTH, WIDTH), tokens) for _ in range(3))
        return self.dense(self.attention(turned(q), turned(k), v, tokens, **changes), WIDTH, WIDTH)

    def mlp(self, x, curve="Gelu"):
        return self.dense(self.op(curve, self.dense(x, WIDTH, MLP)), MLP, WIDTH)

    def block(self, x, curve="Gelu", **changes):
        """A plain pre-norm block."""
        x = self.op("Add", x, self.self_attention(self.norm(x), **changes))
        return self.op("Add", x, self.mlp(self.norm(x), curve))

    def embed(self):
        patches = self.op("Conv", "pixels", self.random(WIDTH, 3, 4, 4), kernel_shape=[4, 4], strides=[4, 4])
        x = self.turn(self.reshape(patches, 0, WIDTH, -1), 0, 2, 1)
        return self.op("Add", x, self.random(1, TOKENS, WIDTH))

    def head(self, x):
        return self.dense(self.op("ReduceMean", self.norm(x), self.ints(1), keepdims=0), WIDTH, CLASSES)

    def model(self, result, batch=2, opset=20):
        self.op("Identity", result)
        self.nodes[-1].output[0] = "scores"
        used = {name for node in self.nodes for name in node.input}
        graph = helper.make_graph(
            self.nodes,
            "spelled",
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, 16, 16])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, CLASSES])],
            [numpy_helper.from_array(value, name) for name, value in self.weights.items() if name in used],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        onnx.checker.check_model(made, full_check=True)
        return made


def windows():
    """Swin (arXiv:2103.14030): windows of 2 x 2, rolled in the second block, with relative positions."""
    d = Drawing()
    x = d.reshape(d.embed(), 0, GRID, GRID, WIDTH)
    for shift in (0, 1):
        y = _roll(d, d.norm(x), shift)
        y = d.turn(d.reshape(y, -1, 2, 2, 2, 2, WIDTH), 0, 1, 3, 2, 4, 5)
        bias = d.random(1, HEADS, 4, 4)
        y = d.self_attention(d.reshape(y, -1, 4, WIDTH), 4, scores=lambda s, b=bias: d.op("Add", s, b))
        y = d.turn(d.reshape(y, -1, 2, 2, 2, 2, WIDTH), 0, 1, 3, 2, 4, 5)
        x = d.op("Add", x, _roll(d, d.reshape(y, -1, GRID, GRID, WIDTH), GRID - shift if shift else 0))
        rows = d.reshape(x, 0, TOKENS, WIDTH)
        x = d.reshape(d.op("Add", rows, d.mlp(d.norm(rows))), 0, GRID, GRID, WIDTH)
    return d.model(d.head(d.reshape(x, 0, TOKENS, WIDTH)))


def _roll(d, x, shift):
    for axis in (1, 2) if shift else ():
        first, last = d.ints(0), d.ints(99)
        cut, where = d.ints(shift), d.ints(axis)
        x = d.op("Concat", d.op("Slice", x, cut, last, where), d.op("Slice", x, first, cut, where), axis=axis)
    return x


def talking_heads():
    """CaiT (arXiv:2103.17239): linear layers over the heads at both sides of the softmax, then class attention."""
    d = Drawing()
    x = d.embed()

    def talk(s):
        return d.turn(d.dense(d.turn(s, 0, 2, 3, 1), HEADS, HEADS), 0, 3, 1, 2)

    for _ in range(2):
        x = d.block(x, scores=talk, probabilities=talk)
    token = d.op("Expand", d.random(1, 1, WIDTH), d.ints(2, 1, WIDTH))
    for _ in range(2):
        y = d.norm(d.op("Concat", token, x, axis=1))
        first = d.op("Slice", y, d.ints(0), d.ints(1), d.ints(1))
        q = d.heads(d.dense(first, WIDTH, WIDTH), 1)
        k, v = (d.heads(d.dense(y, WIDTH, WIDTH), TOKENS + 1) for _ in range(2))
        scaled = d.op("Mul", d.dense(d.attention(q, k, v, 1), WIDTH, WIDTH), d.random(WIDTH))  # LayerScale
        token = d.op("Add", token, scaled)
        token = d.op("Add", token, d.mlp(d.norm(token)))
    pooled = d.op("Gather", d.norm(token), d.weight(np.int64(0)), axis=1)
    return d.model(d.dense(pooled, WIDTH, CLASSES))


def parallel():
    """ViT-22B (arXiv:2302.05442): attention and MLP of one norm, added to the stream together."""
    d = Drawing()
    x = d.embed()
    for _ in range(2):
        y = d.norm(x)
        x = d.op("Add", x, d.op("Add", d.self_attention(y), d.mlp(y)))
    return d.model(d.head(x))


def attention_pool():
    """SigLIP (arXiv:2303.15343): a learnt query that attends to all tokens, with an MLP behind it."""
    d = Drawing()
    x = d.norm(d.block(d.block(d.embed())))
    q = d.heads(d.op("Expand", d.random(1, 1, WIDTH), d.ints(2, 1, WIDTH)), 1)
    k, v = (d.heads(d.dense(x, WIDTH, WIDTH)) for _ in range(2))
    y = d.dense(d.attention(q, k, v, 1), WIDTH, WIDTH)
    y = d.op("Add", y, d.mlp(d.norm(y)))
    return d.model(d.dense(d.op("Gather", y, d.weight(np.int64(0)), axis=1), WIDTH, CLASSES))


def rotary():
    """RoFormer (arXiv:2104.09864): q and k turned by the position of their token."""
    d = Drawing()
    angles = np.outer(np.arange(TOKENS), [1.0, 0.1]).repeat(2, -1)[None, None]
    cosine, sine = (d.weight(f(angles).astype(np.float32)) for f in (np.cos, np.sin))

    def turned(q):
        first, second = d.op("Split", q, d.ints(2, 2), outputs=2, axis=-1)
        half = d.op("Concat", d.op("Neg", second), first, axis=-1)
        return d.op("Add", d.op("Mul", q, cosine), d.op("Mul", half, sine))

    return d.model(d.head(d.block(d.block(d.embed(), turned=turned), turned=turned)))


def convolutions_between():
    """MobileViT (arXiv:2110.02178): convolutions between and behind blocks of attention."""
    d = Drawing()

    def convolve(x):
        y = d.reshape(d.turn(x, 0, 2, 1), 0, WIDTH, GRID, GRID)
        y = d.op("Conv", y, d.random(WIDTH, WIDTH, 3, 3), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        y = d.op("Mul", y, d.op("Sigmoid", y))
        return d.turn(d.reshape(y, 0, WIDTH, TOKENS), 0, 2, 1)

    x = convolve(d.block(convolve(d.block(d.embed(), curve="Relu")), curve="Relu"))
    return d.model(d.head(x))


def shapes_at_run_time():
    """DINOv2 as Hugging Face's code leaves torch's older exporter: shapes from the batch, positions resized."""
    d = Drawing()
    cls, placed = d.random(1, 1, WIDTH), d.random(1, TOKENS, WIDTH)
    heads, size, width = d.ints(HEADS), d.ints(SIZE), d.ints(WIDTH)

    def length(x, axis):
        return d.op("Unsqueeze", d.op("Gather", d.op("Shape", x), d.weight(np.int64(axis)), axis=0), d.ints(0))

    def split(x):
        shape = d.op("Concat", length(x, 0), d.ints(-1), heads, size, axis=0)
        return d.turn(d.op("Reshape", x, shape), 0, 2, 1, 3)

    conv = d.op("Conv", "pixels", d.random(WIDTH, 3, 4, 4), kernel_shape=[4, 4], strides=[4, 4])
    flat = d.op("Concat", length(conv, 0), length(conv, 1), d.ints(-1), axis=0)
    x = d.turn(d.op("Reshape", conv, flat), 0, 2, 1)
    many = d.op("Concat", length("pixels", 0), d.ints(-1), d.ints(-1), axis=0)
    ones = d.op("ConstantOfShape", d.op("Shape", many), value=numpy_helper.from_array(np.array([1])))
    many = d.op("Where", d.op("Equal", many, d.op("Mul", ones, d.ints(-1))), ones, many)
    grid = [d.op("Div", length("pixels", axis), d.ints(4)) for axis in (2, 3)]
    image = d.turn(d.reshape(placed, 1, GRID, GRID, WIDTH), 0, 3, 1, 2)
    sizes = d.op("Concat", d.ints(1), width, *grid, axis=0)
    image = d.op("Resize", image, "", "", sizes, mode="cubic", coordinate_transformation_mode="half_pixel")
    position = d.op("Concat", d.random(1, 1, WIDTH), d.reshape(d.turn(image, 0, 2, 3, 1), 1, -1, WIDTH), axis=1)
    x = d.op("Add", d.op("Concat", d.op("Expand", cls, many), x, axis=1), position)
    for _ in range(2):
        y = d.norm(x)
        q, k, v = (split(d.dense(y, WIDTH, WIDTH)) for _ in range(3))
        last = d.op("Slice", d.op("Shape", q), d.ints(-1), d.ints(2**63 - 1))
        root = d.op("Sqrt", d.op("Div", d.number(1), d.op("Sqrt", d.op("Cast", last, to=TensorProto.FLOAT))))
        scores = d.op("MatMul", d.op("Mul", q, root), d.op("Mul", d.turn(k, 0, 1, 3, 2), root))
        merged = d.turn(d.op("MatMul", d.op("Softmax", scores, axis=-1), v), 0, 2, 1, 3)
        merged = d.op("Reshape", merged, d.op("Concat", length(merged, 0), length(merged, 1), width, axis=0))
        x = d.op("Add", d.op("Mul", d.dense(merged, WIDTH, WIDTH), d.random(WIDTH)), x)
        x = d.op("Add", d.op("Mul", d.mlp(d.norm(x)), d.random(WIDTH)), x)
    pooled = d.op("Gather", d.norm(x), d.weight(np.int64(0)), axis=1)
    return d.model(d.dense(pooled, WIDTH, CLASSES), batch="batch")


ALL = {
    each.__name__: each for each in (windows, talking_heads, parallel, attention_pool, rotary, convolutions_between)
}
