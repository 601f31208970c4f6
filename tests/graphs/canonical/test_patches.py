"""The patch embedding as a product: the same numbers, for every layout and shape of patches that tile an image."""

import numpy as np
import onnx_ir as ir
import pytest

from tests.graphs.onnx_file import inferred, logits
from workbench.graphs.canonical import patches

RNG = np.random.default_rng(0)
#: Images of 12 x 18 pixels, cut into patches of 4 x 6: a grid of 3 x 3; or of 4 x 3: a grid of 3 x 6.
HEIGHT, BREADTH, CHANNELS, WIDTH = 12, 18, 3, 5
CHANNELS_FIRST = "c = Conv<{attributes}>({inputs})  f = Reshape(c, columns)  y = Transpose<perm = [0, 2, 1]>(f)"
CHANNELS_LAST = """t = Transpose<perm = [0, 3, 1, 2]>(x)  c = Conv<{attributes}>({inputs})
    o = Transpose<perm = [0, 2, 3, 1]>(c)  y = Reshape(o, rows)"""


def embedding(last, patch=(4, 6), bias=True, after="", output=None, **attributes):
    """A patch embedding, and images for it."""
    attributes = {"strides": list(patch)} | attributes
    count = (HEIGHT // patch[0]) * (BREADTH // patch[1])
    size = (HEIGHT, BREADTH, CHANNELS) if last else (CHANNELS, HEIGHT, BREADTH)
    text = (CHANNELS_LAST if last else CHANNELS_FIRST).format(
        attributes=", ".join(f"{name} = {value}" for name, value in attributes.items()),
        inputs=("t" if last else "x") + ", kernel" + ", bias" * bias,
    )
    shape = ", ".join(map(str, size))
    constants = {
        "kernel": RNG.standard_normal((WIDTH, CHANNELS // attributes.get("group", 1), *patch)).astype(np.float32),
        "bias": RNG.standard_normal(WIDTH).astype(np.float32),
        "columns": np.array([0, WIDTH, -1]),
        "rows": np.array([0, -1, WIDTH]),
    }
    declared = output or f"float[n, {count}, {WIDTH}]"
    model = inferred(f"m (float[n, {shape}] x) => ({declared} y) {{ {text} {after} }}", **constants)
    return model, RNG.standard_normal((2, *size)).astype(np.float32)


def kinds(model):
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize("patch", [(4, 6), (4, 3), (12, 18), (1, 1)])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_patches_that_tile_the_image_become_one_product(last, patch, bias):
    model, images = embedding(last, patch, bias)
    before = logits(model, images)
    patches.canonicalize(model)
    ir.passes.common.RemoveUnusedNodesPass()(model)
    assert kinds(model) == ["Reshape", "Transpose", "Reshape", "MatMul"] + ["Add"] * bias
    np.testing.assert_allclose(logits(model, images), before, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "unlike",
    [
        {"strides": [2, 3], "output": "float[n, m, k]"},  # patches that overlap
        {"pads": [2, 3, 2, 3], "output": "float[n, m, k]"},
        {"dilations": [2, 2], "output": "float[n, m, k]"},
        {"patch": (5, 6), "output": "float[n, m, k]"},  # the last two rows of pixels are in no patch
        {"after": "z = Relu(c)", "output": "float[n, a, b, d] z, float[n, m, k]"},  # somebody reads the grid
    ],
)
@pytest.mark.parametrize("last", [True, False])
def test_any_other_convolution_stays(last, unlike):
    model, _ = embedding(last, **unlike)
    before = kinds(model)
    patches.canonicalize(model)
    assert kinds(model) == before
