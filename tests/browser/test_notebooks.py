"""The project's own notebooks, clicked as a reader would click them, with quick parameters."""

import pytest

from tests.browser.harness import ROOT

pytestmark = pytest.mark.browser


def test_03_draws_the_graph_before_and_after_quantization(lab, project_notebook):
    lab.open(project_notebook("03_inspect_graph", images=1))
    lab.run_all()
    assert lab.cell_errors() == []
    counts = []
    for frame in (0, 1):
        nodes = lab.page.frame_locator(".wb-netron iframe").nth(frame).locator(".node-item-type")
        nodes.first.wait_for(timeout=120_000)
        lab.page.wait_for_timeout(2000)
        counts.append(nodes.count())
    recorded = lab.scalars()
    assert counts == [recorded["nodes"], recorded["nodes_quantized"]]
    lab.screenshot("03-netron", "netron")


def test_05_builds_what_is_clicked_and_can_be_cancelled(lab, project_notebook):
    lab.open(project_notebook("05_build_engines", samples=16))
    lab.run_all()
    assert lab.cell_errors() == []
    assert lab.scalars()["precision"] == "int8-dynamic"
    engine = lab.hook("engine-panel")
    precision = lab.hook("recipe-panel", "precision")
    precision.get_by_role("button", name="int8", exact=True).click()
    engine.locator(".wb-run").click()
    engine.locator(".wb-cancel").click()
    lab.wait_text(engine.locator(".wb-status"), "Cancelled after", 60)
    engine.locator(".wb-run").click()
    lab.wait_text(engine.locator(".wb-status"), "Done in", 120)
    lab.wait_text(engine.locator(".wb-result"), "int8 cpu")
    lab.screenshot("05-engine-panel", "recipe-panel")


def test_07_moves_the_chosen_engine_when_a_limit_is_moved(lab, project_notebook):
    quick = {"precisions": ["fp32", "int8-dynamic"], "batches": [8], "images": 200, "seconds": 0.2, "max_drop": 0.0}
    lab.open(project_notebook("07_trade_offs", **quick))
    lab.run_all()
    assert lab.cell_errors() == []
    lab.wait_text(lab.hook("study-panel", "grid"), "ms")
    lab.screenshot("07-study-panel", "study-panel")
    handle = lab.hook("max-drop").get_by_role("slider")
    handle.focus()
    lab.page.keyboard.press("End")
    lab.wait_text(lab.hook("choice"), "Take int8-dynamic")
    lab.wait_text(lab.hook("trade-off-panel").locator(".wb-status"), "")
    lab.screenshot("07-trade-off-panel", "trade-off-panel")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")))
def test_every_notebook_runs_to_its_end_in_the_browser(lab, project_notebook, name):
    lab.open(project_notebook(name))
    lab.run_all()
    assert lab.cell_errors() == []
    assert lab.scalars()
    lab.screenshot(name)
