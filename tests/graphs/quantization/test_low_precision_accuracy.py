"""What precisions below 16 bits cost the shipped model, on 1,500 images; the benchmark of that name has 10,000."""

from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.graphs.quantization.emulation import emulated
from workbench.statistics.intervals import discordant_pairs, paired_interval
from workbench.statistics.verdict import FAILS, holds_limit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SHIPPED = Path(__file__).parents[3] / "data" / "checkpoints" / "shapes-vit.npz"
IMAGES = 1500


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture(scope="module")
def graph(shelf):
    return wb.export_onnx(*wb.load_checkpoint(SHIPPED), shelf)


@pytest.fixture(scope="module")
def examples():
    return wb.images("shapes", count=IMAGES, seed=0)


def correct(variant, examples, shelf):
    """Which images a variant classifies correctly."""
    engine = wb.build_engine(emulated(variant, shelf), "onnxruntime", shelf)
    found = wb.measure(engine, examples.x, examples.labels, batch=32, reference=examples.labels, seconds=0)
    return np.array(found.predictions) == examples.labels


@pytest.fixture(scope="module")
def reference(graph, examples, shelf):
    return correct(wb.apply_recipe(graph, wb.Recipe(), shelf), examples, shelf)


@pytest.mark.parametrize(
    ("recipe", "points"),
    [
        (wb.Recipe("mxfp8"), 0.3),
        (wb.Recipe("nvfp4", exclude=("block00/qkv",)), 1.0),  # the place that a search excludes first
        (wb.Recipe("w8"), 0.2),
        (wb.Recipe("w4", layout="cpu"), 0.7),
    ],
    ids=lambda value: getattr(value, "precision", None),
)
def test_the_shipped_model_loses_no_more_than_its_limit(graph, examples, shelf, reference, recipe, points):
    pairs = discordant_pairs(reference, correct(wb.apply_recipe(graph, recipe, shelf), examples, shelf))
    low, high = paired_interval(*pairs, len(examples))
    assert holds_limit((100 * low, 100 * high), points) != FAILS
    assert 100 * (pairs[0] - pairs[1]) / len(examples) < points + 0.5
