"""SmoothQuant's factors, and what they bring back."""

import numpy as np
import pytest

import workbench as wb
from tests.graphs.drawn import draw, outlier, retouch, scaled
from tests.graphs.onnx_file import File, error, logits, tensors
from workbench.errors import WorkbenchError
from workbench.graphs.quantization.smoothquant import smoothed
from workbench.progress import silent


@pytest.fixture(scope="module")
def spiky(tmp_path_factory):
    """One channel of each LayerNorm sixty times larger and its next weights smaller: the same function."""
    factors = {}
    for block in ("block00", "block01", "block02"):
        factors |= outlier(f"{block}/norm1", f"{block}/attention/qkv", 60)
        factors |= outlier(f"{block}/norm2", f"{block}/mlp/fc1", 60)
    return draw(tmp_path_factory.mktemp("spiky"), edit=scaled(factors, at=3))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_smoothing_preserves_the_function(spiky, pictures, tmp_path, alpha):
    smooth = smoothed(spiky, alpha, pictures, wb.Workspace(tmp_path), silent)
    assert smooth.path != spiky.path
    assert error(logits(smooth.path, pictures), logits(spiky.path, pictures)) < 1e-5


def test_factors_are_those_of_the_paper(spiky, pictures, tmp_path):
    (x,) = tensors(spiky.path, pictures, "block01/norm2:out")
    before = File(spiky.path).weights
    kernel = before["block01/mlp/fc1/kernel"]
    expected = np.abs(x).max(axis=(0, 1)) ** 0.5 / np.abs(kernel).max(axis=1) ** 0.5  # equation 4, alpha = 0.5
    after = File(smoothed(spiky, 0.5, pictures, wb.Workspace(tmp_path), silent).path).weights
    np.testing.assert_allclose(
        after["block01/mlp/fc1/kernel/smooth"] / kernel, expected[:, None] + 0 * kernel, rtol=1e-4
    )
    np.testing.assert_allclose(
        before["block01/norm2/scale"] / after["block01/norm2/scale/smooth"], expected, rtol=1e-4
    )


def test_alpha_of_one_makes_all_channels_equally_large(spiky, pictures, tmp_path):
    smooth = smoothed(spiky, 1.0, pictures, wb.Workspace(tmp_path), silent)
    (x,) = tensors(smooth.path, pictures, "block00/norm1:out")
    np.testing.assert_allclose(np.abs(x).max(axis=(0, 1)), 1, rtol=1e-4)


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
def test_smoothing_brings_back_what_outliers_cost(spiky, pictures, shelf, precision):
    reference = logits(spiky.path, pictures)

    def loss(smooth):
        recipe = wb.Recipe(precision, layout="cpu", smooth=smooth, calibration=wb.Calibration(method="minmax"))
        variant = wb.apply_recipe(spiky, recipe, shelf, calibration=pictures)
        return error(logits(variant.path, pictures), reference)

    plain, smooth = loss(None), loss(0.5)
    assert plain > 0.05
    assert smooth < plain / 4


def test_a_graph_without_layernorms_before_products_is_refused(drawn, pictures, tmp_path):
    def bare(graph, nodes):
        for node in graph.node:
            if node.op_type == "LayerNormalization":
                node.op_type = "Mul"
                del node.attribute[:], node.input[2:]

    with pytest.raises(WorkbenchError, match="LayerNorm"):
        smoothed(retouch(drawn, tmp_path, bare), 0.5, pictures, wb.Workspace(tmp_path), silent)


def test_channels_of_zeros_are_left_alone(pictures, tmp_path):
    def silence(weights):
        weights["block00/norm1/scale"][5] = weights["block00/norm1/shift"][5] = 0
        weights["block00/mlp/fc1/kernel"][7] = 0

    graph = draw(tmp_path, edit=silence)
    smooth = smoothed(graph, 0.5, pictures, wb.Workspace(tmp_path), silent)
    assert all(np.isfinite(w).all() for w in File(smooth.path).weights.values())
    assert error(logits(smooth.path, pictures), logits(graph.path, pictures)) < 1e-5


def test_norms_that_share_their_scale_are_smoothed_each_by_its_own_factors(drawn, pictures, tmp_path):
    def share(graph, nodes):
        norms = [node for node in graph.node if node.op_type == "LayerNormalization"]
        for norm in norms:
            norm.input[1:3] = norms[0].input[1:3]

    shared = retouch(drawn, tmp_path, share)
    smooth = smoothed(shared, 0.5, pictures, wb.Workspace(tmp_path / "ws"), silent)
    assert error(logits(smooth.path, pictures), logits(shared.path, pictures)) < 1e-5
    norms = [node for node in File(smooth.path).nodes.values() if node.op_type == "LayerNormalization"]
    assert len({norm.input[1] for norm in norms}) == 7  # two of each block, and the last one's own
