import base64

import numpy as np
import pytest

from tests.graphs.drawn import draw
from workbench.errors import Cancelled, WorkbenchError
from workbench.records import Calibration, ModelSpec, Recipe
from workbench.ui import sensitivity_panel

SMALL = ModelSpec("small", image_size=16, patch=4, width=32, depth=1, heads=2, mlp=64, classes=10)
RECIPE = Recipe("int8", layout="cpu", calibration=Calibration(method="minmax", samples=8))


@pytest.fixture
def panel(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.ui.sensitivity.DRAW_EVERY_S", 0)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((8, 16, 16, 3)).astype(np.float32)
    return sensitivity_panel(draw(tmp_path, SMALL), RECIPE, tmp_path / "ws", images=images, calibration=images)


def cells(chart):
    """(block, role) -> logit error, of a map's figure; NaN where nothing was tried yet."""
    heat = chart.outputs[0]["data"]["application/vnd.plotly.v1+json"]["data"][0]
    packed = heat["z"]  # Plotly writes arrays as base64
    z = np.frombuffer(base64.b64decode(packed["bdata"]), packed["dtype"]).reshape(len(heat["y"]), len(heat["x"]))
    return {(block, role): z[i, j] for i, block in enumerate(heat["y"]) for j, role in enumerate(heat["x"])}


def test_the_panel_reads_back_the_recipe_that_it_was_given_and_what_is_chosen(panel, control):
    assert panel.value == RECIPE
    control(panel, "method").value = "entropy"
    assert panel.value.calibration == Calibration(method="entropy", samples=8)
    control(panel, "method").value = "minmax"
    assert panel.value == RECIPE


def test_the_map_fills_place_by_place_and_ends_with_what_the_run_returns(panel, control):
    chart, seen = control(panel, "map"), []
    chart.observe(lambda change: seen.append(cells(chart)), "outputs")
    result = panel.result()
    filled = [sum(error == error for error in found.values()) for found in seen]
    assert filled == [1, 2, 3, 4]  # one block with qkv, proj, fc1 and fc2
    assert {len(found) for found in seen} == {4}
    assert seen[-1] == {(row.block, row.role): pytest.approx(row.logit_error) for row in result.rows if row.block}
    assert result.order[0] in panel._outcome.children[0].value


def test_a_cancelled_run_keeps_its_places_and_goes_on_there(panel, control, tmp_path):
    chart, seen = control(panel, "map"), []

    def count(change):
        seen.append(1)
        if len(seen) == 2:
            panel.cancel()

    chart.observe(count, "outputs")
    with pytest.raises(Cancelled):
        panel.result()
    assert len(seen) == 2
    kept = len(list((tmp_path / "ws" / "artefacts" / "sensitivity").iterdir()))
    assert kept == 2
    assert len(panel.result().rows) >= 4


def test_a_precision_without_ranges_is_refused_in_the_panel(tmp_path, shown):
    images = np.zeros((4, 16, 16, 3), np.float32)
    panel = sensitivity_panel(draw(tmp_path), Recipe("fp16"), tmp_path / "ws", images=images)
    with pytest.raises(WorkbenchError, match="no places"):
        panel.result()
    assert "no places" in shown(panel)
