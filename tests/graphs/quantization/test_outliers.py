"""Outliers for a lesson: nothing changes in the logits, much in the tensors that quantization sees."""

import numpy as np
import pytest

from tests.graphs.onnx_file import error, logits, tensors
from tests.graphs.references import EXPORTS
from workbench.graphs.any_model import load_graph
from workbench.graphs.quantization.images import graph_input
from workbench.graphs.quantization.outliers import with_norm_outliers


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
