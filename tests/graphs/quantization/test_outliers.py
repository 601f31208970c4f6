"""Outliers for a lesson: little changes in the logits, much in the tensors that quantization sees."""

import numpy as np
import pytest

from tests.graphs.onnx_file import error, logits, tensors
from tests.graphs.references import EXPORTS
from workbench.graphs.any_model import load_graph
from workbench.graphs.quantization.images import graph_input
from workbench.graphs.quantization.outliers import with_norm_outliers, with_residual_outliers


@pytest.mark.parametrize("factor", [50.0, 400.0])
def test_outliers_change_nothing_that_the_model_computes(drawn, pictures, shelf, factor):
    treated = with_norm_outliers(drawn, shelf, factor=factor)
    assert treated.digest != drawn.digest
    assert error(logits(treated.path, pictures), logits(drawn.path, pictures)) < 1e-5


def test_outliers_are_in_the_tensors_that_quantization_sees(drawn, pictures, shelf):
    plain, spiky = (
        np.abs(tensors(graph.path, pictures, "block01/norm2:out")[0]).max(axis=(0, 1))
        for graph in (drawn, with_norm_outliers(drawn, shelf))
    )
    assert np.sort(spiky / plain)[-3:] == pytest.approx([1, 50, 50], rel=1e-2)


def test_an_imported_model_gets_them_too(shelf, tmp_path):
    graph = load_graph(EXPORTS / "separate_legacy.onnx", shelf)
    images = np.random.default_rng(1).uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
    treated = with_norm_outliers(graph, shelf)
    before, after = (logits(each.path, graph_input(each, images)) for each in (graph, treated))
    assert error(after, before) < 1e-5
    assert "for a lesson" in treated.notes[-1]


def test_the_residual_stream_gets_two_constant_channels_and_every_later_layernorm_undoes_them(
    drawn, pictures, shelf
):
    treated = with_residual_outliers(drawn, shelf, pictures, factor=200.0)

    def both(name):
        return (tensors(each.path, pictures, name)[0] for each in (drawn, treated))

    blocks = [f"block{index:02d}" for index in range(drawn.spec.depth)]
    for name in [f"{block}/output" for block in blocks]:
        before, after = both(name)
        large = np.sort(np.abs(after - before).mean(axis=(0, 1)))[-2:]
        assert large[0] == pytest.approx(large[1], rel=0.2)
        assert np.abs(after).max() > 20 * np.abs(before).max()
    for name in [f"{block}/{norm}:out" for block in blocks[1:] for norm in ("norm1", "norm2")]:
        before, after = both(name)
        assert np.abs(after).max() < 2 * np.abs(before).max()
    before, after = (logits(each.path, pictures) for each in (drawn, treated))
    # nearly the same: where all tokens have the median variance nothing would differ
    assert np.corrcoef(after.ravel(), before.ravel())[0, 1] > 0.95


def test_small_outliers_in_the_residual_stream_change_little(drawn, pictures, shelf):
    treated = with_residual_outliers(drawn, shelf, pictures, factor=0.01)
    assert error(logits(treated.path, pictures), logits(drawn.path, pictures)) < 1e-2
