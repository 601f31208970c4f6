import nbformat
import pytest

from tests.test_tutorial import write_notebook

DRAW = "import plotly.graph_objects as go\ngo.Figure(go.Bar(y=[1, 2]))"


def add_text(path, text):
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(text))
    nbformat.write(notebook, path)


@pytest.fixture
def drawn(monkeypatch):
    """Figures get a picture without a browser."""
    monkeypatch.setattr("workbench.reporting.figures.stills._drawn", lambda figures: [b"picture"] * len(figures))


def test_a_page_has_the_text_the_code_the_tables_and_the_figures_as_pictures(tmp_path, drawn):
    import notebooks

    path = write_notebook(tmp_path / "00_one.ipynb", DRAW, "import pandas as pd\npd.DataFrame({'a': [12345]})")
    add_text(path, "# One\n\nWhat it is about.")
    made = notebooks.pages([path], tmp_path / "executed")
    [page, picture] = [made["00_one.md"], next(name for name in made if name.endswith(".png"))]
    assert page.startswith("# One")
    assert "go.Figure(go.Bar(y=[1, 2]))" in page
    assert "<td>12345</td>" in page
    assert f"({picture})" in page
    assert made[picture] == b"picture"


def test_a_notebook_runs_again_only_when_its_cells_have_changed(tmp_path, drawn):
    import notebooks

    path = write_notebook(tmp_path / "one.ipynb", "import time\ntime.time_ns()")
    executed = tmp_path / "executed"
    first = notebooks.pages([path], executed)
    assert notebooks.pages([path], executed) == first
    write_notebook(path, "import time\n-time.time_ns()")
    assert notebooks.pages([path], executed) != first


def test_a_copy_that_stopped_in_a_cell_is_not_fresh(tmp_path):
    import notebooks
    from workbench.errors import WorkbenchError

    path = write_notebook(tmp_path / "one.ipynb", "1 / 0")
    with pytest.raises(WorkbenchError, match=r"one\.ipynb stopped in its cell"):
        notebooks.pages([path], tmp_path / "executed")
    assert not notebooks.is_fresh(path, tmp_path / "executed" / "one.ipynb")


def test_figures_without_a_browser_to_draw_them_are_an_error(tmp_path, monkeypatch):
    import notebooks

    def no_browser(figures):
        raise OSError("no Chromium")

    monkeypatch.setattr("workbench.reporting.figures.stills._drawn", no_browser)
    with pytest.raises(RuntimeError, match="install kaleido and Chromium"):
        notebooks.pages([write_notebook(tmp_path / "one.ipynb", DRAW)], tmp_path / "executed")


def test_a_copy_that_lacks_its_pictures_gets_them_without_running_again(tmp_path, monkeypatch):
    import notebooks

    path, executed = write_notebook(tmp_path / "one.ipynb", DRAW), tmp_path / "executed"
    notebooks.run_notebook(path, executed / path.name)
    monkeypatch.setattr("workbench.reporting.figures.stills._drawn", lambda figures: [b"picture"] * len(figures))
    monkeypatch.setattr(notebooks, "run_notebook", None)
    assert b"picture" in notebooks.pages([path], executed).values()
