import json

import plotly.io
import pytest

from workbench.errors import WorkbenchError
from workbench.ui import Resolution, resolution_panel


def drawn(panel):
    chart = next(part for part in panel.children if "wb-chart" in part._dom_classes)
    return plotly.io.from_json(json.dumps(chart.outputs[0]["data"]["application/vnd.plotly.v1+json"]))


def lines(panel):
    """Where the lines of the crossover and of the chosen size stand, in pixels."""
    return [round(shape.x0) for shape in drawn(panel).layout.shapes]


def test_the_mark_moves_with_the_slider_and_the_curve_with_the_model(control):
    panel = resolution_panel(Resolution("B/16", 224))
    # S = M - 2D = 1536 tokens: 1535 patches of 16 pixels in a square
    assert lines(panel) == [round(16 * 1535**0.5), 224]
    before = drawn(panel).data[0].y
    control(panel, "image-size").value = 384
    assert panel.value == Resolution("B/16", 384)
    assert lines(panel)[1] == 384
    assert "384 pixels make 577 tokens" in control(panel, "sentence").value
    control(panel, "model").value = "S/16"
    assert lines(panel)[0] == round(16 * 767**0.5)
    assert drawn(panel).data[0].y != before


def test_another_patch_moves_the_slider_to_whole_patches_of_it(control):
    panel = resolution_panel(Resolution("B/16", 240))
    control(panel, "model").value = "H/14"
    assert panel.value.image_size % 14 == 0
    assert abs(panel.value.image_size - 240) <= 14
    control(panel, "model").value = "tutorial"
    assert panel.value.image_size == control(panel, "image-size").value == 240


def test_the_count_of_the_chosen_size_is_the_formula_s(control):
    panel = resolution_panel(Resolution("B/16", 224))
    counted = panel.result().set_index("part")
    tokens, width, mlp = 197, 768, 3072
    attention = 12 * (4 * tokens * width**2 + 2 * tokens**2 * width)
    assert counted.loc["attention", "GMAC"] == pytest.approx(attention / 1e9)
    assert counted.loc["mlp", "GMAC"] == pytest.approx(12 * 2 * tokens * width * mlp / 1e9)
    assert counted["share"].sum() == pytest.approx(1)


def test_a_size_that_no_patch_divides_and_a_model_without_a_name_are_refused():
    with pytest.raises(WorkbenchError, match="225"):
        Resolution("B/16", 225)
    with pytest.raises(WorkbenchError, match="B/17"):
        Resolution("B/17")
