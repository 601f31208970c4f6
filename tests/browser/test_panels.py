"""The panels under real clicks, in notebooks that each test writes for itself."""

import pytest

pytestmark = pytest.mark.browser

GRAPH = """\
from pathlib import Path
import time
import ipywidgets
import workbench as wb
from workbench.errors import Cancelled
from workbench.ui import recipe_panel
spec = wb.ModelSpec("tiny", 32, 8, 32, 4, 2, 64, 10)
graph = wb.Graph(Path("tiny.onnx"), "digest", 17, wb.Preprocessing(32), spec)
def work(recipe, progress):
    for image in range(STEPS):
        progress("calibrating", image, STEPS)
        time.sleep(0.05)
    return recipe
"""
PANEL = """\
panel = recipe_panel(graph, "ws", wb.Recipe(keep=("block01",)), work=work, show=lambda r: ipywidgets.Label(r.label))
panel
"""


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
    assert "keep=('block01',)" in lab.output(2)
    lab.screenshot("recipe-panel", "panel")
    lab.run_cell(3)
    assert "precision='int8'" in lab.output(3)


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
    lab.wait_text(status, "Cancelled after", 5)
    run.click()
    lab.wait_text(status, "calibrating")
    lab.wait_text(status, "Done in")
    lab.run_cell(2)
    assert lab.output(2).strip() == "fp32 keep 1"


def test_a_click_on_cancel_is_heard_while_the_next_cell_waits_for_the_result(lab, write_notebook):
    lab.open(write_notebook("waiting", GRAPH.replace("STEPS", "1200"), PANEL, "panel.result()"))
    lab.start_all()
    lab.wait_text(lab.hook("status"), "calibrating")
    lab.hook("run").click()
    lab.wait_text(lab.hook("message"), "already under way")
    lab.hook("cancel").click()
    lab.wait_text(lab.hook("status"), "Cancelled after", 10)
    lab.wait_run(10)
    assert [error.split(":")[0] for error in lab.cell_errors()] == ["Cancelled"]
