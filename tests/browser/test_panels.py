"""The panels under real clicks, in notebooks that each test writes for itself."""

import pytest
from playwright.sync_api import expect

from tests.browser.harness import ROOT

pytestmark = pytest.mark.browser

HERE = f"""\
import sys
sys.path.insert(0, {str(ROOT)!r})
import workbench as wb
from workbench import ui
from tests.graphs.drawn import draw
from tests.ui import measured
"""
GRAPH = f"""{HERE}
import time
import ipywidgets
from pathlib import Path
graph = draw(Path("."))
def work(recipe, progress):
    for image in range(STEPS):
        progress("calibrating", image, STEPS)
        time.sleep(0.05)
    return recipe
"""
PANEL = """\
seed = wb.Recipe(exclude=("block01",))
panel = ui.recipe_panel(graph, "ws", seed, work=work, show=lambda made: ipywidgets.Label(made.label))
panel
"""


@pytest.mark.slow  # as a notebook of `make test`
def test_a_click_on_a_precision_changes_the_record_that_the_panel_reads_back(lab, write_notebook):
    lab.open(
        write_notebook("recipe", GRAPH.replace("STEPS", "3"), PANEL, "print(panel.value)", "print(panel.result())")
    )
    lab.run_all()
    assert lab.cell_errors() == []
    assert "precision='fp32'" in lab.output(2)
    lab.hook("recipe-panel", "precision").get_by_role("button", name="int8", exact=True).click()
    lab.run_cell(2)
    assert "precision='int8'" in lab.output(2)
    assert "exclude=('block01',)" in lab.output(2)
    lab.screenshot("recipe-panel", "panel")
    lab.run_cell(3)
    assert "precision='int8'" in lab.output(3)


@pytest.mark.slow  # as a notebook of `make test`
def test_a_long_run_shows_progress_is_cancelled_by_a_click_and_runs_again(lab, write_notebook):
    lab.open(write_notebook("cancel", GRAPH.replace("STEPS", "200"), PANEL, "print(panel.result().label)"))
    lab.run_cell(0)
    lab.run_cell(1)
    run, cancel, status = lab.hook("run"), lab.hook("cancel"), lab.hook("status")
    run.click()
    lab.wait_text(status, "calibrating")
    lab.wait_text(status, "left")
    run.click()
    lab.wait_text(lab.hook("message"), "already under way")
    lab.screenshot("recipe-panel-running", "panel")
    cancel.click()
    lab.wait_text(status, "Cancelled after", 20)
    run.click()
    lab.wait_text(status, "calibrating")
    lab.wait_text(status, "Done in")
    lab.run_cell(2)
    assert lab.output(2).strip() == "fp32 1 excluded"


def test_a_click_on_cancel_is_heard_while_the_next_cell_waits_for_the_result(lab, write_notebook):
    lab.open(write_notebook("waiting", GRAPH.replace("STEPS", "1200"), PANEL, "panel.result()"))
    lab.start_all()
    lab.wait_text(lab.hook("status"), "calibrating")
    lab.hook("run").click()
    lab.wait_text(lab.hook("message"), "already under way")
    lab.hook("cancel").click()
    lab.wait_text(lab.hook("status"), "Cancelled after", 20)
    lab.wait_run(10)
    assert [error.split(":")[0] for error in lab.cell_errors()] == ["Cancelled"]


@pytest.mark.slow  # as a notebook of `make test`
def test_an_engine_is_built_by_a_click_and_its_row_appears(lab, write_notebook):
    made = "recipe = ui.recipe_panel(graph, 'ws')\nrecipe"
    built = "engine = ui.engine_panel(recipe, 'ws')\nengine"
    lab.open(write_notebook("engine", GRAPH, made, built, "print(engine.result().variant.recipe.precision)"))
    for cell in range(3):
        lab.run_cell(cell)
    lab.hook("recipe-panel", "precision").get_by_role("button", name="int8-dynamic", exact=True).click()
    engine = lab.hook("engine-panel")
    engine.locator(".wb-run").click()
    lab.wait_text(engine.locator(".wb-result"), "int8-dynamic")
    lab.run_cell(3)
    assert lab.output(3).strip() == "int8-dynamic"
    card = lab.hook("engine-panel", "card").locator("input")
    card.fill("T4")
    card.press("Tab")
    lab.wait_text(engine.locator(".wb-note"), "ONNX Runtime computes on the CPU here")
    engine.locator(".wb-run").click()
    lab.wait_text(engine.locator(".wb-message"), "cannot build")
    lab.screenshot("engine-panel", "engine-panel")
    assert lab.cell_errors() == []


@pytest.mark.slow  # as a notebook of `make test`
def test_a_limit_that_is_moved_by_keyboard_moves_the_ring_in_the_chart(lab, write_notebook):
    lab.open(
        write_notebook("trade-off", HERE, "panel = ui.trade_off_panel(measured.frame())\npanel", "panel.value")
    )
    lab.run_all()
    assert lab.cell_errors() == []
    lab.wait_text(lab.hook("choice"), "Take fp16")
    before = lab.ring("trade-off-panel")
    handle = lab.hook("max-drop").get_by_role("slider")
    handle.focus()
    lab.page.keyboard.press("End")
    lab.wait_text(lab.hook("choice"), "Take int8-dynamic")
    # faster, and less accurate; pixels count downwards
    lab.wait_ring("trade-off-panel", lambda ring: ring[0] > before[0] and ring[1] > before[1])
    lab.run_cell(2)
    assert lab.output(2).strip().endswith("Limits(max_drop=20.0, max_latency_ms=None)")
    lab.screenshot("trade-off-panel", "panel")


@pytest.mark.slow  # as a notebook of `make test`
def test_netron_draws_two_graphs_side_by_side(lab, write_notebook):
    small = "wb.ModelSpec('small', image_size=16, patch=4, width=32, depth=1, heads=2, mlp=64, classes=10)"
    counts = "import onnx\nprint(*(len(onnx.load(g.path).graph.node) for g in (graph, less)))"
    lab.open(write_notebook("netron", GRAPH, f"less = draw(Path('.'), {small})\nui.view(graph, less)", counts))
    lab.run_all()
    assert lab.cell_errors() == []
    for frame, nodes in enumerate(map(int, lab.output(2).split())):
        drawn = lab.page.frame_locator(".wb-netron iframe").nth(frame).locator(".node-item-type")
        expect(drawn).to_have_count(nodes)
    lab.screenshot("netron", "netron")


@pytest.mark.slow
def test_behind_a_hub_netron_draws_through_the_servers_proxy(lab, write_notebook):
    view = "import os\nos.environ['JUPYTERHUB_SERVICE_PREFIX'] = '/'\nui.view(graph)"
    lab.open(write_notebook("hub", GRAPH, view, "import onnx\nprint(len(onnx.load(graph.path).graph.node))"))
    lab.run_all()
    assert lab.cell_errors() == []
    frame = lab.page.locator(".wb-netron iframe")
    assert frame.get_attribute("src").startswith("/proxy/")
    drawn = lab.page.frame_locator(".wb-netron iframe").locator(".node-item-type")
    expect(drawn).to_have_count(int(lab.output(2)))


@pytest.mark.slow  # as a notebook of `make test`
def test_the_map_of_a_sensitivity_run_fills_while_it_runs_and_survives_a_cancel(lab, write_notebook):
    start = """\
import numpy as np
images = np.random.default_rng(0).standard_normal((8000, 16, 16, 3)).astype(np.float32)
recipe = wb.Recipe("int8", layout="cpu", calibration=wb.Calibration(method="minmax"))
panel = ui.sensitivity_panel(graph, recipe, "ws", images=images, calibration=images[:8])
panel
"""
    lab.open(write_notebook("sensitivity", GRAPH, start, "print(len(panel.result().rows))"))
    lab.run_cell(0)
    lab.run_cell(1)
    panel = lab.hook("sensitivity-panel")
    filled = panel.locator(".wb-map .heatmaplayer .heatmap-label")
    panel.locator(".wb-run").click()
    lab.wait_some(".wb-map .heatmaplayer .heatmap-label", 12)
    panel.locator(".wb-cancel").click()
    lab.wait_text(panel.locator(".wb-status"), "Cancelled after", 60)
    panel.locator(".wb-run").click()
    lab.wait_text(panel.locator(".wb-status"), "Done in", 300)
    lab.wait_text(panel.locator(".wb-result"), "The most sensitive first")
    expect(filled).to_have_count(12)
    lab.run_cell(2)
    assert int(lab.output(2)) >= 12
    lab.screenshot("sensitivity-panel", "panel")
