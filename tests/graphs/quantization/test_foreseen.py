import numpy as np
import pytest

from tests.graphs.drawn import draw
from workbench.errors import WorkbenchError
from workbench.graphs.quantization.recipe import apply_recipe, foreseen
from workbench.records import Calibration, Recipe

MINMAX = Calibration(method="minmax")
RECIPES = [
    Recipe(),
    Recipe("fp32", layout="cpu", high_precision="bf16"),
    Recipe("fp16"),
    Recipe("bf16"),
    Recipe("fp8", calibration=MINMAX),
    Recipe("fp8", layout="cpu", calibration=MINMAX),
    Recipe("int8", calibration=MINMAX),
    Recipe("int8", layout="cpu", calibration=MINMAX),
    Recipe("int8", high_precision="bf16", calibration=MINMAX),
    Recipe("int8-dynamic"),
]


@pytest.mark.parametrize("opset", [17, 20])
def test_a_variant_is_foreseen_as_it_is_then_made(tmp_path, opset):
    graph, images = draw(tmp_path, opset=opset), np.ones((2, 16, 16, 3), np.float32)
    for recipe in RECIPES:
        before = foreseen(graph, recipe)
        made = apply_recipe(graph, recipe, tmp_path / "ws", calibration=images)
        assert (before.runtimes, before.opset) == (made.runtimes, made.opset), recipe.label


def test_what_cannot_be_made_is_refused_before_it_is_tried(tmp_path):
    with pytest.raises(WorkbenchError, match="BF16 as its high precision"):
        foreseen(draw(tmp_path), Recipe("int8", layout="cpu", high_precision="bf16"))
