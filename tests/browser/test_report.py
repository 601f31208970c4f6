"""The report in a real browser: it draws, complains about nothing and asks nobody for anything."""

import numpy as np
import pytest

import workbench as wb
from tests.browser.harness import SCREENSHOTS, WIDTHS
from tests.tiny import CLASSES, SIZE, Tiny
from workbench.reporting.html import write_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder, tiny = tmp_path_factory.mktemp("report"), Tiny.of()
    images = np.random.default_rng(1).normal(size=(200, SIZE, SIZE, 3)).astype(np.float32)
    labels = tiny.logits(images).argmax(axis=1)
    labels[::10] = (labels[::10] + 1) % CLASSES
    recipes = [wb.Recipe(), wb.Recipe("int8-dynamic"), wb.Recipe("fp16"), wb.Recipe("bf16")]
    graph = tiny.graph(folder)
    study = wb.Study(graph, folder / "workspace", recipes=recipes, images=images, labels=labels, seconds=0.2)
    results = study.run().results()
    return write_report(folder / "report.html", results, results.choose(max_drop=20))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_draws_its_figures_without_a_complaint_or_a_request(browser, report, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    page.wait_for_selector(".plot-container >> nth=2")
    assert page.locator("figure .main-svg").count() >= 3
    assert page.locator(".choice strong").inner_text().endswith(("batch 1", "batch 8"))
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert said == []
    assert asked == [report.as_uri()]
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"report-{width}.png", full_page=True)
    page.close()


def test_a_point_of_the_trade_off_shows_its_values_when_hovered(browser, report):
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(report.as_uri())
    page.wait_for_selector(".plot-container >> nth=2")  # then the first listens to the pointer
    page.locator("figure >> nth=0").locator(".points path").first.hover(force=True)
    hover = page.locator(".hoverlayer .hovertext").first
    hover.wait_for()
    assert "images/s" in hover.text_content()
    page.close()
