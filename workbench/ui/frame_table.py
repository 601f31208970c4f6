"""A frame as a table that is readable wherever a notebook is shown: no cell is cut, thousands are separated."""

from __future__ import annotations

import pandas as pd

from ..reporting.table import as_html, as_text


class Table:
    """What ``table`` returns: HTML for notebooks, text for viewers without it."""

    def __init__(self, frame: pd.DataFrame):
        self.frame = frame

    def _repr_html_(self) -> str:
        return f'<div style="overflow-x: auto">{as_html(self.frame)}</div>'

    def __repr__(self) -> str:
        return as_text(self.frame)


def table(frame: pd.DataFrame | pd.Series) -> Table:
    """A frame for the end of a cell; pandas itself cuts texts after 50 letters and long tables in the middle.

    Args:
        frame: shown whole; a series is one column. An index without names is left out.
    """
    return Table(frame.to_frame() if isinstance(frame, pd.Series) else frame)
