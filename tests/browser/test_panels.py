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


def test_a_click_on_cancel_works_while_the_next_cell_waits_for_the_result(lab, write_notebook):
    lab.open(write_notebook("waiting", GRAPH.replace("STEPS", "1200"), PANEL, "panel.result()"))
    lab.start_all()
    lab.wait_text(lab.element("status"), "calibrating")
    lab.element("run").click()
    lab.wait_text(lab.element("message"), "already under way")
    lab.element("cancel").click()
    lab.wait_text(lab.element("status"), "Cancelled after", 20)
    lab.wait_run(10)
    assert [error.split(":")[0] for error in lab.cell_errors()] == ["Cancelled"]


@pytest.mark.slow
def test_a_limit_that_is_moved_by_keyboard_moves_the_ring_in_the_chart(lab, write_notebook):
    lab.open(
        write_notebook("trade-off", HERE, "panel = ui.trade_off_panel(measured.frame())\npanel", "panel.value")
    )
    lab.run_all()
    assert lab.cell_errors() == []
    lab.wait_text(lab.element("choice"), "Take fp16")
    before = lab.ring("trade-off-panel")
    handle = lab.element("max-drop").get_by_role("slider")
    handle.focus()
    lab.page.keyboard.press("End")
    lab.wait_text(lab.element("choice"), "Take int8-dynamic")
    # faster, and less accurate; pixels count downwards
    lab.wait_ring("trade-off-panel", lambda ring: ring[0] > before[0] and ring[1] > before[1])
    lab.run_cell(2)
    assert lab.output(2).strip().endswith("Limits(max_drop=20.0, max_latency_ms=None)")
    lab.screenshot("trade-off-panel", "panel")


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


SERVICE = f"""\
{HERE}
from pathlib import Path
from tests.deployment.bundles import tiny_engine
from tests.tiny import some_images
from workbench.deployment.traffic import Traffic
bundle = wb.export_bundle(tiny_engine(Path(".")), "bundle", images=some_images(40))
service = wb.deploy(bundle)
"""


@pytest.mark.slow
def test_a_click_sends_requests_to_a_service_and_the_chart_follows_them(lab, write_notebook):
    panel = "panel = ui.service_panel(service, some_images(40), Traffic(2, 1, 3.0))\npanel"
    lab.open(write_notebook("service", SERVICE, panel))
    lab.start_all()
    lab.wait_text(lab.element("state"), "The engine answers", 60)
    lab.element("run").click()
    lab.wait_text(lab.element("status"), "Done in", 120)
    assert "requests answered, 0 not" in lab.element("timeline").inner_text()
    lab.wait_run(30)
    assert lab.cell_errors() == []


def test_what_was_clicked_stays_in_the_saved_notebook_in_words(lab, write_notebook):
    cell = 'panel = ui.resolution_panel(ui.Resolution("B/16", 224))\npanel'
    lab.open(write_notebook("summary", HERE, cell, "panel.result()"))
    lab.run_cells(0, 2)
    lab.wait_text(lab.element("sentence"), "197 tokens")
    lab.element("image-size").get_by_role("slider").focus()
    lab.page.keyboard.press("ArrowRight")
    lab.wait_text(lab.element("sentence"), "226 tokens")
    lab.element("run").click()
    lab.wait_text(lab.element("resolution-panel"), "Done in")
    lab.wait_text(lab.element("result"), "attention")
    (output,) = lab.cells()[1]["outputs"]
    assert "application/vnd.jupyter.widget-view+json" in output["data"]
    for kind in ("text/html", "text/plain"):
        words = "".join(output["data"][kind])
        assert "240 pixels make 226 tokens" in words
        assert "Done in" in words
        assert "attention" in words.partition("Done in")[2]
