"""The controls of panels, with sentences for labels, and pieces of HTML, in the colours of JupyterLab's theme."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import ipywidgets as widgets
import pandas as pd

from ..errors import WorkbenchError
from ..reporting.figures.theme import CONFIG
from ..reporting.table import as_html

#: The controls of a panel by name: widgets with ``value``, ``disabled`` and ``layout``, which have no static types.
Controls = dict[str, Any]

LABEL_WIDTH = "190px"
_LABEL = {"description_width": LABEL_WIDTH}
#: JupyterLab's own variables follow its light and dark themes; the second value serves other front ends.
_MUTED = "var(--jp-ui-font-color2, inherit)"
_ERROR = "var(--jp-error-color1, #b3261e)"
#: The theme's orange alone has too little contrast with a white page.
_WARN = "color-mix(in srgb, var(--jp-warn-color0, #8a5200) 75%, var(--jp-content-font-color1, black))"


def with_class(widget: Any, name: str) -> Any:
    """The widget with the CSS class ``wb-<name>``, by which tests and style sheets find it."""
    widget.add_class(f"wb-{name}")
    return widget


def dropdown(name: str, label: str, options: Iterable[tuple[str, object]], value):
    """A drop-down list of (text, value); a value that is not in the list is added."""
    options = list(options)
    if value not in [v for _, v in options]:
        options.append((str(value), value))
    return with_class(widgets.Dropdown(options=options, value=value, description=label, **_wide()), name)


def buttons(name: str, options: Sequence[str], hints: Sequence[str], value: str):
    """One button per option, the chosen one pressed; a hint appears when the pointer rests on a button."""
    style = {"button_width": "auto"}
    control = widgets.ToggleButtons(options=list(options), value=value, tooltips=list(hints), style=style)
    return with_class(control, name)


def labelled(label: str, control):
    """A label to the left of a control which would show its own label above itself."""
    text = widgets.HBox([widgets.Label(label)], layout={"width": LABEL_WIDTH, "justify_content": "flex-end"})
    return widgets.HBox([text, control], layout={"flex_flow": "row wrap", "grid_gap": "0 8px"})


def text(name: str, label: str, value: str, suggestions: Iterable[str] = ()):
    """A line to type in, with suggestions."""
    options = tuple(suggestions)
    control = widgets.Combobox(value=value, options=options, ensure_option=False, description=label, **_wide())
    return with_class(control, name)


def upload(name: str, label: str, accept: str, multiple: bool = False):
    """A button that lets the browser choose files and send them to the kernel."""
    control = widgets.FileUpload(accept=accept, multiple=multiple, description=label, layout={"width": "auto"})
    return with_class(control, name)


def integer(name: str, label: str, value: int, low: int, high: int):
    """A whole number from ``low`` to ``high``; a value outside moves the bound."""
    low, high = min(low, value), max(high, value)
    return with_class(widgets.BoundedIntText(value=value, min=low, max=high, description=label, **_wide()), name)


def number(name: str, label: str, value: float):
    """A number above zero to type in; others are raised to the smallest that is shown."""
    control = widgets.BoundedFloatText(value=value, min=1e-3, max=1e9, description=label, **_wide())
    return with_class(control, name)


def slider(name: str, label: str, value: float, high: float):
    """A number from 0 to ``high`` to drag or to move by arrow keys, in steps of a power of ten; see ``exact``."""
    step = 10.0 ** math.floor(math.log10(max(value, high) / 100))
    most = step * math.ceil(max(value, high) / step - 1e-6)
    decimals = max(0, -round(math.log10(step)))
    control = widgets.FloatSlider(
        value=value, min=0, max=most, step=step, readout_format=f".{decimals}f", description=label, **_wide()
    )
    return with_class(control, name)


def whole_slider(name: str, label: str, value: int, low: int, high: int):
    """A whole number to drag or to move by arrow keys; a value outside moves the end."""
    low, high = min(low, value), max(high, value)
    return with_class(widgets.IntSlider(value=value, min=low, max=high, description=label, **_wide()), name)


def exact(control, given: float) -> float:
    """A slider's value; ``given`` itself while the slider is at the step nearest to it.

    A browser moves a slider to its nearest step, which would change a value that nobody touched.
    """
    return given if abs(control.value - given) <= control.step / 2 else control.value


def checkbox(name: str, label: str, value: bool):
    """A box to tick."""
    control = widgets.Checkbox(value=value, description=label, indent=False, layout={"width": "auto"})
    return with_class(control, name)


def multiple(name: str, label: str, options: Iterable[str], value: Iterable[str], rows: int = 6):
    """A list of which several may be chosen (with Ctrl or Shift); chosen values that are not in it are added."""
    options, value = list(options), list(value)
    options += [one for one in value if one not in options]
    control = widgets.SelectMultiple(
        options=options, value=value, rows=min(rows, max(2, len(options))), description=label, **_wide()
    )
    return with_class(control, name)


def _wide() -> dict:
    return {"style": _LABEL, "layout": {"width": "auto", "max_width": "46em"}}


class Chart(widgets.Output):
    """A Plotly figure that any thread may replace.

    JupyterLab's own renderer draws it and fits it to the width of the window. A ``FigureWidget`` does not fit, adds
    5 MB to the notebook, and stays blank if a browser needs over two seconds to load it (anywidget 0.11).
    """

    def draw(self, figure) -> None:
        """Show this figure in place of the previous one."""
        self.layout.min_height = f"{figure.layout.height or 450}px"  # keeps what is below in its place meanwhile
        data = {
            "application/vnd.plotly.v1+json": {**json.loads(figure.to_json()), "config": CONFIG},
            "text/plain": figure.layout.title.text,
        }
        self.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)


def paragraph(words: str, *, colour: str = "inherit") -> str:
    """Plain text as a paragraph; markup in it is shown as text."""
    return f'<div style="color: {colour}; line-height: 1.4; white-space: pre-wrap">{html.escape(words)}</div>'


def muted(words: str) -> str:
    """A paragraph in a pale colour."""
    return paragraph(words, colour=_MUTED)


def warning(words: str) -> str:
    """A paragraph in a warning's colour, about a choice that will not work."""
    return paragraph(words, colour=_WARN)


def log_lines(lines: Sequence[str]) -> str:
    """The tail of a log, in the front end's code font."""
    if not lines:
        return ""
    body = html.escape("\n".join(lines))
    return (
        f'<pre style="margin: 0; color: {_MUTED}; font-family: var(--jp-code-font-family, monospace);'
        f' font-size: 85%; white-space: pre-wrap">{body}</pre>'
    )


def table(frame: pd.DataFrame) -> str:
    """A frame in JupyterLab's style for frames, without its index."""
    body = as_html(frame, index=False).replace("<table", '<table style="margin-left: 0"', 1)
    return f'<div class="jp-RenderedHTMLCommon" style="overflow-x: auto">{body}</div>'


def error_box(error: BaseException) -> str:
    """An error with its reason and its remedy, for the panel in which the work was started."""
    if isinstance(error, WorkbenchError):
        lines = [("", error.what), ("Why", error.why), ("What to do", error.remedy)]
    else:
        remedy = "panel.result() in a cell raises it again with its traceback"
        lines = [("", f"{type(error).__name__}: {error}"), ("What to do", remedy)]
    body = "".join(
        f"<div>{f'<b>{label}:</b> ' if label else ''}{html.escape(words)}</div>" for label, words in lines
    )
    return (
        f'<div role="alert" style="border-left: 4px solid {_ERROR}; padding: 2px 0 2px 10px; line-height: 1.4">'
        f"{body}</div>"
    )
