"""Images side by side, each under its caption."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ...errors import refuse_unless
from .theme import template_name

#: Pixels of height that one image with its caption takes, and the caption alone.
CELL = 172
CAPTION = 22


def contact_sheet(pixels: np.ndarray, captions: Sequence[str], columns: int = 4, title: str = "") -> go.Figure:
    """A sheet of images, each under its caption; it is as wide as the page.

    Args:
        pixels: uint8 (N, H, W, 3).
        captions: N short texts.
        columns: images in a row.
        title: what the sheet shows.

    Raises:
        WorkbenchError: there are no images, or not one caption each.
    """
    refuse_unless(
        len(pixels) == len(captions) > 0,
        "The sheet cannot be drawn",
        why=f"there are {len(pixels)} images and {len(captions)} captions",
        remedy="give one image or more, and a caption for each",
    )
    rows = math.ceil(len(pixels) / columns)
    between = CAPTION / (CELL * rows)  # Plotly wants a share of the height
    figure = make_subplots(
        rows, columns, subplot_titles=list(captions), horizontal_spacing=0.01, vertical_spacing=between
    )
    for number, image in enumerate(pixels):
        row, column = divmod(number, columns)
        figure.add_trace(go.Image(source=_png(image), hoverinfo="skip"), row + 1, column + 1)
    figure.update_xaxes(visible=False, constrain="domain")
    figure.update_yaxes(visible=False, constrain="domain")
    figure.update_annotations(font_size=11)
    height, margin = CELL * rows + (70 if title else 40), {"l": 20, "r": 20, "t": 60 if title else 30, "b": 10}
    figure.update_layout(template=template_name(), title_text=title, height=height, margin=margin)
    return figure


def _png(image: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
