"""The project's own notebooks, clicked as a reader would click them, with quick parameters."""

from dataclasses import replace

import pytest
from playwright.sync_api import expect

from tests.browser.harness import ROOT
from workbench import Workspace
from workbench.records import Measurement, Window
from workbench.studies.plan import MEASUREMENT
from workbench.studies.results import saved_plan
from workbench.tutorial import run_notebook

pytestmark = pytest.mark.browser
NOTEBOOKS = ROOT / "notebooks"


@pytest.fixture
def papermill(tmp_path, shared_workspace):
    """Run a notebook with nobody clicking, in the browser's workspace; returns what it recorded."""

    def run(name, /, **parameters):
        given = parameters | {"workspace": str(shared_workspace)}
        return run_notebook(NOTEBOOKS / f"{name}.ipynb", tmp_path / "out.ipynb", given)

    return run


def test_03_draws_every_node_of_both_graphs(lab, project_notebook):
    lab.open(project_notebook("03_inspect_graph"))
    lab.run_cells(0, lab.find("ui.view(") + 1)
    for frame, graph in enumerate(("graph", "quantized")):
        nodes = int(lab.value(f"len(wb.inspect({graph}, runtimes=()).nodes)"))
        drawn = lab.page.frame_locator(".wb-netron iframe").nth(frame).locator(".node-item-type")
        expect(drawn).to_have_count(nodes)
    lab.screenshot("03-netron", "netron")


@pytest.mark.slow
def test_04_fills_the_map_while_it_tries_one_place_after_the_other(lab, project_notebook):
    lab.open(project_notebook("04_choose_precision", images=16, samples=8))
    start = lab.find("ui.sensitivity_panel")
    lab.run_cells(0, lab.find("ranges = "))
    lab.run_cell(start)
    panel = lab.element("sensitivity-panel")
    cells = panel.locator(".wb-map .heatmaplayer .heatmap-label")
    panel.locator(".wb-run").click()
    lab.wait_some(".wb-map .heatmaplayer .heatmap-label", 24)
    lab.screenshot("04-sensitivity-panel-running", "sensitivity-panel")
    expect(panel.locator(".wb-status")).to_contain_text("Done in")
    expect(cells).to_have_count(24)  # 6 blocks of 4 places
    lab.run_cell(start + 1)
    assert lab.cell_errors() == []
    lab.screenshot("04-sensitivity-panel", "sensitivity-panel")


def click_05(lab, notebook):
    """Cancel a long build, build what is clicked, and run the rest; returns what was recorded."""
    lab.open(notebook)
    first = lab.find("engines.result()")
    lab.run_cells(0, first)
    recipe, engine = lab.element("recipe-panel"), lab.element("engine-panel")
    status, samples = engine.locator(".wb-status"), lab.element("recipe-panel", "samples").locator("input")
    recipe.get_by_role("button", name="int8", exact=True).click()
    samples.fill("20000")  # minutes of work
    samples.press("Tab")
    engine.locator(".wb-run").click()
    expect(status).to_contain_text("left")
    engine.locator(".wb-run").click()
    expect(engine.locator(".wb-message")).to_contain_text("already under way")
    lab.screenshot("05-engine-panel-running", "recipe-panel")
    engine.locator(".wb-cancel").click()
    expect(status).to_contain_text("Cancelled after")
    samples.fill("16")
    samples.press("Tab")
    engine.locator(".wb-run").click()
    expect(status).to_contain_text("Done in")
    expect(engine.locator(".wb-result")).to_contain_text("int8 cpu")
    lab.screenshot("05-engine-panel", "recipe-panel")
    lab.run_cells(first, len(lab.cells()))
    return lab.scalars()


def test_05_builds_what_is_clicked_also_after_a_long_build_was_cancelled(lab, project_notebook):
    recorded = click_05(lab, project_notebook("05_build_engines"))
    assert recorded["precision"] == "int8"
    assert recorded["backend"] == "onnxruntime"


@pytest.mark.slow
def test_05_records_what_papermill_records_for_the_same_choices(lab, project_notebook, papermill):
    clicked = click_05(lab, project_notebook("05_build_engines"))
    given = papermill("05_build_engines", precision="int8", samples=16)
    timed = {"rtx_build_s", "rtx_mib"}  # a build differs from the next
    assert {k: v for k, v in clicked.items() if k not in timed} == {
        k: v for k, v in given.items() if k not in timed
    }


#: A study of its own name: all tests of notebooks share one workspace.
QUICK_07 = {
    "name": "dragged",
    "precisions": ["fp32", "int8-dynamic"],
    "batches": [8],
    "images": 64,
    "seconds": 0.1,
}


def make_up_latencies(folder, milliseconds):
    """Append measurements to the ledger whose order is certain, whatever else this machine does: INT8 errs more."""
    workspace = Workspace(folder)
    for cell in saved_plan(workspace, QUICK_07["name"]).cells:
        newest = workspace.observations(MEASUREMENT, Measurement, cell.key)[-1]
        fast = milliseconds[cell.recipe.precision] / 1e3
        times = tuple(fast * (1 + 0.001 * (i % 5)) for i in range(50))
        taken = {"rounds": tuple(i // 2 for i in range(50)), "openings": tuple(i // 2 * 8 // 25 for i in range(50))}
        counted = Window((50,), (sum(times),))
        made_up = replace(newest, latencies_s=times, **taken, end_to_end=counted, compute=counted)
        if cell.recipe.precision != "fp32":
            wrong = tuple((label + 1) % 12 for label in newest.labels[:4])
            made_up = replace(made_up, predictions=wrong + newest.reference_predictions[4:])
        workspace.append(MEASUREMENT, cell.key, made_up)


def test_07_moves_the_chosen_point_when_a_limit_is_dragged(lab, shared_workspace, project_notebook, papermill):
    lab.open(project_notebook("07_trade_offs", max_drop=0.0, **QUICK_07))
    lab.run_all()
    assert lab.cell_errors() == []
    make_up_latencies(shared_workspace, {"fp32": 80, "int8-dynamic": 40})
    lab.run_cells(lab.find("wb.Study("), len(lab.cells()))
    assert lab.scalars()["precision"] == "fp32"
    expect(lab.element("study-panel", "grid")).to_contain_text("40.1 ms")
    lab.screenshot("07-study-panel", "study-panel")
    before, handle = lab.ring("trade-off-panel"), lab.element("max-drop").get_by_role("slider")
    lab.drag(handle, lab.element("max-drop").locator(".noUi-target"))
    expect(lab.element("choice")).to_contain_text("Take int8-dynamic")
    lab.wait_ring("trade-off-panel", lambda ring: ring[0] > before[0] and ring[1] > before[1])  # faster, and lower
    lab.screenshot("07-trade-off-panel", "trade-off-panel")
    lab.run_cells(lab.find("limits.result()"), len(lab.cells()))
    clicked = lab.scalars()
    assert clicked["precision"] == "int8-dynamic"
    limit = float(handle.get_attribute("aria-valuenow"))
    assert papermill("07_trade_offs", max_drop=limit, **QUICK_07) == clicked


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
def test_every_notebook_runs_to_its_end_in_the_browser(lab, project_notebook, name):
    lab.open(project_notebook(name))
    lab.run_all()
    assert lab.cell_errors() == []
    assert lab.scalars()
    lab.screenshot(name, height=8000)
