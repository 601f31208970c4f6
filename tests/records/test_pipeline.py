"""Batches are ordered, and an image has the shape of its graph's layout."""

from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.records import Batches, Graph, Preprocessing


@pytest.mark.parametrize("batches", [(8, 4, 16), (1, 8, 4), (0, 1, 1), (1, 1.0, 1)])
def test_batches_out_of_order_or_below_one_are_refused(batches):
    with pytest.raises(WorkbenchError, match=r"min <= opt <= max|positive whole number"):
        Batches(*batches)


def test_exact_batches_are_ordered_and_lie_within_the_range():
    assert Batches(1, 8, 32, exact=[32, 1, 8, 1]).exact == (1, 8, 32)
    for exact in ((64,), (0,), (1.0,), ("8",), 8.5, None):
        with pytest.raises(WorkbenchError, match="whole numbers within the range"):
            Batches(1, 8, 32, exact)


@pytest.mark.parametrize(("layout", "shape"), [("NHWC", (8, 8, 3)), ("NCHW", (3, 8, 8))])
def test_an_image_has_the_shape_of_the_layout(layout, shape):
    assert Graph(Path("graph.onnx"), "d", 20, Preprocessing(8, layout=layout)).image_shape == shape
