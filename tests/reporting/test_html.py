import re
from html.parser import HTMLParser

import plotly.graph_objects as go
import pytest

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.records import Measurement
from workbench.reporting import html
from workbench.reporting.html import write_report
from workbench.reporting.table import printed
from workbench.studies.results import Results


class Page(HTMLParser):
    """Collects what a browser would load, and the text that a reader sees."""

    def __init__(self):
        super().__init__()
        self.loads, self.text, self.inside = [], [], []

    def handle_starttag(self, tag, attributes):
        self.inside.append(tag)
        self.loads += [value for name, value in attributes if name in ("src", "href", "data", "poster", "srcset")]

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self.inside):
            self.text.append(data)


@pytest.fixture
def results(graph, recipes, images, labels, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.measuring.timing.WINDOW_S", 0.002)
    grid = [wb.Recipe("fp32"), wb.Recipe("int8-dynamic"), wb.Recipe("fp16")]
    study = wb.Study(graph, tmp_path / "workspace", recipes=grid, images=images, labels=labels, seconds=0.05)
    return study.run().results()


def read(path):
    page = Page()
    page.feed(path.read_text())
    return page


def test_the_report_holds_choice_cells_remedies_and_figures_and_loads_nothing_from_elsewhere(results, tmp_path):
    choice = results.choose(max_drop=30)
    more = [go.Figure(go.Scatter(x=[1], y=[1]), layout={"title": {"text": "my own figure"}})]
    path = write_report(tmp_path / "runs" / "report.html", results, choice, title="<i>x</i>", figures=more)
    page, source = read(path), path.read_text()
    text = " ".join(page.text)
    assert text.index(choice.reason) < text.index("All cells") < text.index("Figures")
    assert "60 images" in text
    assert "4 of 6 cells measured" in text
    measured = results.frame().query("execution == 'executed'")
    assert all(f"{ms:.2f}" in text for ms in measured.p50_ms)
    assert "the variant was written for tensorrt" in text
    assert "choose layout='cpu'" in text
    assert [load for load in page.loads if not load.startswith("data:")] == []
    assert "@import" not in source.split("</style>")[0]
    assert len(re.findall(r"plotly\.js v\d", source)) == 1
    assert len(re.findall(r"Plotly\.newPlot\(", source)) >= 4
    assert "my own figure" in source
    assert "<i>x" not in source


def test_accuracy_against_energy_is_a_figure_where_energy_was_measured(results, tmp_path, monkeypatch):
    words = "Accuracy against energy"
    assert words not in write_report(tmp_path / "plain.html", results).read_text()
    frame = results.with_intervals().assign(joules_per_image=2.0)
    monkeypatch.setattr(Results, "with_intervals", lambda self: frame)
    assert words in write_report(tmp_path / "energy.html", results).read_text()


def test_a_study_that_was_not_run_has_a_report_that_says_so(graph, recipes, images, labels, tmp_path):
    study = wb.Study(graph, tmp_path / "workspace", recipes=[wb.Recipe()], images=images, labels=labels)
    text = " ".join(read(write_report(tmp_path / "report.html", study.results())).text)
    assert "nothing was run" in text
    assert "to do" in text


def test_a_folder_in_the_way_is_an_error_and_leaves_no_draft(results, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkbenchError, match="cannot be written"):
        write_report(tmp_path / "file" / "report.html", results)
    (tmp_path / "report.html").mkdir()
    with pytest.raises((WorkbenchError, OSError)):
        write_report(tmp_path / "report.html", results)
    assert not list(tmp_path.glob(".report*"))


def test_the_printed_table_fits_the_terminal_and_keeps_what_the_choice_rests_on(results, monkeypatch):
    for columns in (90, 110, 300):
        monkeypatch.setenv("COLUMNS", str(columns))
        table = printed(results.frame(), results.choose(max_drop=100).row)
        assert max(map(len, table.splitlines())) <= columns
        assert table.count("→") == 1
        assert {"recipe", "batch", "images/s"} <= set(table.splitlines()[0].split())
        assert "points lost" in table.splitlines()[0]
    assert "file MiB" in table


def test_a_note_stands_once_with_all_that_it_is_about():
    def measured(precision, batch, *notes):
        return Measurement("onnxruntime", "m", wb.Recipe(precision), batch, "v", (), notes=notes)

    text = html._notes(
        [measured("fp32", 1, "slow"), measured("fp32", 8, "slow"), measured("fp16", 8, "a<b", "slow")]
    )
    assert text.count("<li>") == 2
    assert "<li>fp32 on onnxruntime (batch 1, 8); fp16 on onnxruntime (batch 8): slow</li>" in text
    assert "<li>fp16 on onnxruntime (batch 8): a&lt;b</li>" in text
    assert html._notes([]) == ""
