"""SmoothQuant's factors, and what they bring back."""

import dataclasses

import numpy as np
import onnx
import pytest

import workbench as wb
from tests.graphs.drawn import draw
from tests.graphs.onnx_file import File, error, logits, tensors
from workbench.errors import WorkbenchError
from workbench.graphs.quantization.smoothquant import smoothed
from workbench.progress import silent


def with_outliers(weights):
    """One channel of each LayerNorm sixty times larger and its next weights smaller: the same function."""
    for index in range(3):
        for norm, product in (("norm1", "attention/qkv"), ("norm2", "mlp/fc1")):
            block = f"block{index:02d}"
            weights[f"{block}/{norm}/scale"][3] *= 60
            weights[f"{block}/{norm}/shift"][3] *= 60
            weights[f"{block}/{product}/kernel"][3] /= 60


@pytest.fixture(scope="module")
def spiky(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("spiky"), edit=with_outliers)


def test_outlier_rescaling_preserves_the_function(drawn, spiky, pictures):
    assert error(logits(spiky.path, pictures), logits(drawn.path, pictures)) < 1e-5


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
    model = onnx.load(drawn.path)
    for node in model.graph.node:
        if node.op_type == "LayerNormalization":
            node.op_type = "Mul"
            del node.attribute[:]
            del node.input[2:]
    path = tmp_path / "bare.onnx"
    onnx.save(model, path)
    bare = dataclasses.replace(drawn, path=path, digest="bare")
    with pytest.raises(WorkbenchError, match="LayerNorm"):
        smoothed(bare, 0.5, pictures, wb.Workspace(tmp_path), silent)


def test_channels_of_zeros_are_left_alone(pictures, tmp_path):
    def silence(weights):
        weights["block00/norm1/scale"][5] = weights["block00/norm1/shift"][5] = 0
        weights["block00/mlp/fc1/kernel"][7] = 0

    graph = draw(tmp_path, edit=silence)
    smooth = smoothed(graph, 0.5, pictures, wb.Workspace(tmp_path), silent)
    assert all(np.isfinite(w).all() for w in File(smooth.path).weights.values())
    assert error(logits(smooth.path, pictures), logits(graph.path, pictures)) < 1e-5
