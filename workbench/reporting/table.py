"""Tables for people: every cell in full, thousands separated; a study's frame with the columns that matter."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pandas as pd


def number(value: float) -> str:
    """A number in a table: from 1,000 on without decimals and with separators, else four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def as_html(frame: pd.DataFrame, index: bool | None = None, classes: str | None = None) -> str:
    """A frame as an HTML table in which no cell is cut.

    Args:
        frame: whole numbers get separators, others four digits.
        index: whether the names of the rows are shown; None shows them where there are any.
        classes: CSS classes of the table.
    """
    with pd.option_context("display.max_colwidth", None):
        named = _has_names(frame) if index is None else index
        return _readable(frame).to_html(index=named, classes=classes, border=0)


def as_text(frame: pd.DataFrame) -> str:
    """The same table as lines of text, for viewers without HTML."""
    with pd.option_context("display.max_colwidth", None):
        return _readable(frame).to_string(index=_has_names(frame))


def _readable(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its numbers as text; a whole number stays exact."""
    shown = frame.copy()
    for place in range(frame.shape[1]):
        texts = [_cell(value) for value in frame.iloc[:, place]]
        shown.isetitem(place, pd.Series(texts, index=frame.index, dtype=object))
    return shown


def _cell(value) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        return "–" if math.isnan(value) else number(value)
    return "–" if value is None or value is pd.NA else str(value)


def _has_names(frame: pd.DataFrame) -> bool:
    return not isinstance(frame.index, pd.RangeIndex)


#: Columns for people: heading -> the text of a row.
_SUMMARY = {
    "recipe": lambda row: row.label,
    "runtime": lambda row: row.where,
    "batch": lambda row: f"{row.batch}",
    "how it ran": lambda row: row.execution,
    "images/s": lambda row: _number(row.images_per_second, ",.1f"),
    "× FP32": lambda row: _number(row.speedup, ".2f"),
    "p50 ms": lambda row: _number(row.p50_ms, ".2f"),
    "p99 ms": lambda row: _number(row.p99_ms, ".2f"),
    "top-1\u00a0% [95\u00a0%]": lambda row: _interval(row, "top1", 100, ".1f"),
    "points lost [95\u00a0%]": lambda row: _interval(row, "drop_points", 1, ".2f"),
    "same class as FP32 %": lambda row: _number(100 * row.agreement, ".1f"),
    "memory MiB": lambda row: _number(row.memory_mib, ",.0f"),
    "file MiB": lambda row: _number(row.engine_mib, ",.1f"),
}


def summary(frame: pd.DataFrame, chosen=None) -> pd.DataFrame:
    """A frame of cells as text for people: fastest first, the chosen row marked with an arrow.

    Args:
        frame: what ``Study.frame`` returns.
        chosen: the row of a ``Choice``, or None.
    """
    ordered = frame.sort_values("images_per_second", ascending=False, kind="stable")
    axes = ("label", "where", "batch")
    mark = ["→" if chosen and all(row[a] == chosen[a] for a in axes) else "" for row in ordered.to_dict("records")]
    texts = {heading: [text(row) for row in ordered.itertuples()] for heading, text in _SUMMARY.items()}
    return pd.DataFrame({"": mark, **texts})


#: The columns that are left out on a narrow terminal, in this order.
_LEFT_OUT = ("file MiB", "memory MiB", "same class as FP32 %", "how it ran", "p50 ms", "runtime")


def printed(frame: pd.DataFrame, chosen=None) -> str:
    """``summary``, as lines that fit the terminal: a narrow one shows fewer columns; no cell is cut."""
    table, width = summary(frame, chosen), shutil.get_terminal_size((160, 24)).columns
    for column in _LEFT_OUT:
        if len(table.to_string(index=False).partition("\n")[0]) <= width:
            break
        table = table.drop(columns=column)
    return table.to_string(index=False)


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)


def _interval(row, column: str, scale: float, form: str) -> str:
    value, low, high = (scale * getattr(row, column + end) for end in ("", "_low", "_high"))
    return "–" if math.isnan(value) else f"{value:{form}} [{low:{form}}, {high:{form}}]"
