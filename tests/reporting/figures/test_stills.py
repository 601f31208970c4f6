import base64
import io
import json

import nbformat
import plotly.graph_objects as go
import plotly.io as pio
import pytest
from PIL import Image

from workbench.reporting.figures.stills import FIGURE, PICTURE, add_stills


@pytest.fixture
def executed(tmp_path):
    """A notebook with a table, a figure, and a figure of a size of its own."""
    figures = [go.Figure(go.Scatter(y=[1, 2]), layout=size) for size in ({}, {"width": 600, "height": 300})]
    data = [{"text/plain": "a table"}, *({FIGURE: json.loads(figure.to_json())} for figure in figures)]
    cell = nbformat.v4.new_code_cell("show()")
    cell.outputs = [nbformat.v4.new_output("display_data", one) for one in data]
    path = tmp_path / "executed.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    return path


def outputs(path):
    return [output.data for output in nbformat.read(path, as_version=4).cells[0].outputs]


def test_every_figure_gets_a_picture_of_its_size_and_stays_a_figure(executed, monkeypatch):
    def draw(figures, files, width, height, validate):
        for file, *size in zip(files, width, height):
            Image.new("RGB", size).save(file)

    monkeypatch.setattr(pio, "write_images", draw)
    assert add_stills([executed]) is None
    table, *figures = outputs(executed)
    assert set(table) == {"text/plain"}
    pictures = [Image.open(io.BytesIO(base64.b64decode(figure[PICTURE]))) for figure in figures]
    assert [picture.size for picture in pictures] == [(1000, 450), (600, 300)]
    assert all(figure[FIGURE]["data"][0]["y"] for figure in figures)


def test_without_a_browser_the_notebook_stays_unchanged_and_the_remedy_is_returned(executed, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("Could not find Chrome\nmore")

    monkeypatch.setattr(pio, "write_images", fail)
    before = executed.read_bytes()
    assert "install kaleido and Chromium (RuntimeError: Could not find Chrome)" in add_stills([executed])
    assert executed.read_bytes() == before


def test_notebooks_without_figures_need_no_browser(tmp_path, monkeypatch):
    monkeypatch.setattr(pio, "write_images", None)
    nbformat.write(nbformat.v4.new_notebook(cells=[]), tmp_path / "plain.ipynb")
    assert add_stills([tmp_path / "plain.ipynb"]) is None
