"""What a panel shows, as text that needs no kernel: for executed notebooks, nbconvert and GitHub."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator

import ipywidgets as widgets

Choice = tuple[str, str]


def choices(controls: Iterable[widgets.Widget]) -> Iterator[Choice]:
    """Label and chosen value of every control, top to bottom; a box with a label names the control beside it."""
    for control in controls:
        if isinstance(control, widgets.Box):
            yield from _in_box(control)
        elif control.has_trait("value") and not isinstance(control, widgets.HTML | widgets.Label):
            yield _label(control), _chosen(control)


def _in_box(box: widgets.Box) -> Iterator[Choice]:
    label = next((text for child in box.children if (text := _text_of_label(child))), "")
    for name, value in choices(box.children):
        yield name or label, value


def _text_of_label(widget: widgets.Widget) -> str:
    if isinstance(widget, widgets.Label):
        return widget.value
    return next(filter(None, map(_text_of_label, getattr(widget, "children", ()))), "")


def _label(control) -> str:
    return str(getattr(control, "description", "")).rstrip(":")


def _chosen(control) -> str:
    if isinstance(control, widgets.FileUpload):
        return ", ".join(file["name"] for file in control.value) or "nothing uploaded"
    if isinstance(control, widgets.Dropdown):
        pairs = (option if isinstance(option, tuple) else (option, option) for option in control.options)
        return next((str(text) for text, value in pairs if value == control.value), "nothing")
    return _text(control.value)


def _text(value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ", ".join(map(_text, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def shown_html(parts: Iterable[widgets.Widget]) -> Iterator[str]:
    """The HTML that widgets show, and the titles of their charts."""
    for part in parts:
        if isinstance(part, widgets.HTML):
            yield part.value
        elif isinstance(part, widgets.Label):
            yield f"<div>{html.escape(part.value)}</div>"
        elif isinstance(part, widgets.Output):
            titles = (output.get("data", {}).get("text/plain", "") for output in part.outputs)
            yield from (f"<div><i>Chart: {html.escape(title)}</i></div>" for title in titles if title)
        else:
            yield from shown_html(getattr(part, "children", ()))


def as_html(name: str, chosen: Iterable[Choice], shown: Iterable[str]) -> str:
    """A table of the choices, and below it what was shown of them."""
    rows = "".join(
        f"<tr><th style='text-align: left'>{html.escape(label)}</th>"
        f"<td style='text-align: left'>{html.escape(value)}</td></tr>"
        for label, value in chosen
    )
    return f"<div><b>The {html.escape(name)} panel</b><table>{rows}</table>{''.join(shown)}</div>"


def as_text(name: str, chosen: Iterable[Choice], shown: Iterable[str]) -> str:
    """The same as lines of text."""
    chosen = list(chosen)
    width = max((len(label) for label, _ in chosen), default=0)
    lines = [f"The {name} panel", *(f"  {label:<{width}}  {value}" for label, value in chosen)]
    return "\n".join([*lines, *filter(None, map(_without_tags, shown))])


def _without_tags(markup: str) -> str:
    """The words of a piece of HTML: a line per row of a table and per paragraph."""
    spaced = re.sub(r"\s+", " ", markup)
    broken = re.sub(r"</(tr|div|p|pre)>", "\n", re.sub(r"</t[hd]>", "  ", spaced))
    lines = (line.strip() for line in html.unescape(re.sub(r"<[^>]*>", "", broken)).splitlines())
    return "\n".join(filter(None, lines))
