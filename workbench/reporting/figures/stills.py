"""Pictures of figures inside executed notebooks, for viewers that run no scripts, such as GitHub's."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

from ...files import scratch_folder

FIGURE, PICTURE = "application/vnd.plotly.v1+json", "image/png"
#: Pixels of a figure without a size of its own.
WIDTH, HEIGHT = 1000, 450


def add_stills(notebooks: Iterable) -> str | None:
    """Store a PNG picture beside every Plotly figure in executed notebooks.

    JupyterLab still draws the figure itself; a viewer that cannot draw it shows the picture. One browser draws all.

    Args:
        notebooks: paths of executed notebooks, rewritten in place.

    Returns:
        None, or why there are no pictures and what to do about it: kaleido or a browser is missing.
    """
    import nbformat

    read = {Path(path): nbformat.read(path, as_version=4) for path in notebooks}
    outputs = [
        output.data
        for notebook in read.values()
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if FIGURE in output.get("data", {})
    ]
    try:
        pictures = _drawn([output[FIGURE] for output in outputs])
    except Exception as error:  # kaleido has errors of many kinds for a browser that is missing or does not start
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return f"Charts show in JupyterLab only; for pictures of them install kaleido and Chromium ({reason})"
    for output, picture in zip(outputs, pictures):
        output[PICTURE] = base64.b64encode(picture).decode()
    for path, notebook in read.items():
        nbformat.write(notebook, path)
    return None


def _drawn(figures: list) -> list[bytes]:
    import plotly.io as pio

    if not figures:
        return []
    with scratch_folder() as folder:
        files: list[Path | str] = [folder / f"{number}.png" for number in range(len(figures))]
        widths = [figure["layout"].get("width", WIDTH) for figure in figures]
        heights = [figure["layout"].get("height", HEIGHT) for figure in figures]
        pio.write_images(figures, files, width=widths, height=heights, validate=False)
        return [Path(file).read_bytes() for file in files]
