"""Controls with sentences for labels, in the reader's own theme, and the bits of HTML around them."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Sequence

import ipywidgets as widgets
import pandas as pd

from ..errors import WorkbenchError

LABEL_WIDTH = "190px"
_LABEL = {"description_width": LABEL_WIDTH}
#: JupyterLab's own variables, so that light and dark themes both fit; the second value serves other front ends.
_MUTED = "var(--jp-ui-font-color2, inherit)"
_ERROR = "var(--jp-error-color1, #b3261e)"
#: The theme's orange alone stands off a white page too little to be read.
_WARN = "color-mix(in srgb, var(--jp-warn-color0, #8a5200) 75%, var(--jp-content-font-color1, black))"


def hooked(widget, hook: str):
    """The widget with the CSS class ``wb-<hook>``, by which tests and style sheets find it."""
    widget.add_class(f"wb-{hook}")
    return widget


def choice(hook: str, label: str, options: Iterable[tuple[str, object]], value):
    """A drop-down list of (sentence, value); a value that the list lacks is added as it is."""
    options = list(options)
    if value not in [v for _, v in options]:
        options.append((str(value), value))
    return _row(hook, widgets.Dropdown(options=options, value=value, description=label, **_wide()))


def buttons(hook: str, options: Sequence[str], hints: Sequence[str], value: str):
    """One button per option, the chosen one pressed; each says more when the pointer rests on it."""
    style = {"button_width": "auto"}
    return _row(hook, widgets.ToggleButtons(options=list(options), value=value, tooltips=list(hints), style=style))


def beside(label: str, control):
    """A label to the left of a control that would stand it above itself."""
    words = widgets.HBox([widgets.Label(label)], layout={"width": LABEL_WIDTH, "justify_content": "flex-end"})
    return widgets.HBox([words, control], layout={"flex_flow": "row wrap", "grid_gap": "0 8px"})


def text(hook: str, label: str, value: str, suggestions: Iterable[str] = ()):
    """A line to type in, with suggestions."""
    return _row(
        hook,
        widgets.Combobox(
            value=value, options=tuple(suggestions), ensure_option=False, description=label, **_wide()
        ),
    )


def whole_number(hook: str, label: str, value: int, low: int, high: int):
    """A whole number; the bounds widen to hold a value given beyond them."""
    low, high = min(low, value), max(high, value)
    return _row(hook, widgets.BoundedIntText(value=value, min=low, max=high, description=label, **_wide()))


def slider(hook: str, label: str, value: float, high: float):
    """A number from 0 to ``high`` to drag or to move by arrow keys, in steps of a power of ten; see ``exact``."""
    step = 10.0 ** math.floor(math.log10(max(value, high) / 100))
    most = step * math.ceil(max(value, high) / step - 1e-6)
    decimals = max(0, -round(math.log10(step)))
    control = widgets.FloatSlider(
        value=value, min=0, max=most, step=step, readout_format=f".{decimals}f", description=label, **_wide()
    )
    return _row(hook, control)


def exact(control, given: float) -> float:
    """What a slider says; ``given`` itself where it stands on the nearest step, to which browsers move it."""
    return given if abs(control.value - given) <= control.step / 2 else control.value


def tick(hook: str, label: str, value: bool):
    """A box to tick."""
    return _row(hook, widgets.Checkbox(value=value, description=label, indent=False, layout={"width": "auto"}))


def several(hook: str, label: str, options: Iterable[str], value: Iterable[str], rows: int = 6):
    """A list of which several may be chosen (with Ctrl or Shift); chosen names that it lacks are added."""
    options, value = list(options), list(value)
    options += [name for name in value if name not in options]
    control = widgets.SelectMultiple(
        options=options, value=value, rows=min(rows, max(2, len(options))), description=label, **_wide()
    )
    return _row(hook, control)


def _wide() -> dict:
    return {"style": _LABEL, "layout": {"width": "auto", "max_width": "46em"}}


def _row(hook: str, control):
    return hooked(control, hook)


#: Fewer buttons above a chart: each is a stop for who walks the page by Tab.
CHART = {"responsive": True, "displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d"]}


class Chart(widgets.Output):
    """A Plotly figure that is drawn anew whenever it changes, from any thread.

    JupyterLab's own renderer draws it, which fits every width of the window. A ``FigureWidget`` does not, brings
    5 MB into the notebook, and stays blank where a browser needs over two seconds to load it (anywidget 0.11).
    """

    def draw(self, figure) -> None:
        """Show this figure instead of the one before."""
        self.layout.min_height = f"{figure.layout.height or 450}px"  # what stands below does not jump meanwhile
        data = {
            "application/vnd.plotly.v1+json": {**json.loads(figure.to_json()), "config": CHART},
            "text/plain": figure.layout.title.text,
        }
        self.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)


def paragraph(words: str, *, colour: str = "inherit") -> str:
    """Plain words as a paragraph; anything in them that looks like markup is shown, not obeyed."""
    return f'<div style="color: {colour}; line-height: 1.4; white-space: pre-wrap">{html.escape(words)}</div>'


def muted(words: str) -> str:
    """A paragraph that keeps to the background."""
    return paragraph(words, colour=_MUTED)


def warning(words: str) -> str:
    """A paragraph about something that will not work as chosen."""
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
    """A frame that looks as JupyterLab shows frames."""
    body = frame.to_html(index=False, border=0, float_format=_number)
    body = body.replace("<table", '<table style="margin-left: 0"', 1)
    return f'<div class="jp-RenderedHTMLCommon" style="overflow-x: auto">{body}</div>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def error_box(error: BaseException) -> str:
    """An error with why it happened and what to do, to stand in the panel where the work was started."""
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
