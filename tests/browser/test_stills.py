"""The pictures beside the charts of executed notebooks, drawn by a real browser."""

import base64
import io
import json

import nbformat
import pytest
from PIL import Image

from tests.ui import measured
from workbench.reporting import figures
from workbench.reporting.figures.stills import FIGURE, PICTURE, add_stills

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_a_chart_gets_a_picture_in_its_own_colours(browser, tmp_path):
    data = {FIGURE: json.loads(figures.pareto(measured.frame()).to_json())}
    cell = nbformat.v4.new_code_cell("", outputs=[nbformat.v4.new_output("display_data", data)])
    path = tmp_path / "executed.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    assert add_stills([path]) is None
    stored = nbformat.read(path, as_version=4).cells[0].outputs[0].data
    picture = Image.open(io.BytesIO(base64.b64decode(stored[PICTURE]))).convert("RGB")
    assert picture.size == (1000, 460)
    seen = {"#{:02X}{:02X}{:02X}".format(*pixel) for _, pixel in picture.getcolors(1 << 20)}
    assert {figures.COLOURS[precision] for precision in ("fp32", "fp16", "int8", "int8-dynamic")} <= seen
