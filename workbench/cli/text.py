"""Counts, tables and paragraphs for a terminal."""

from __future__ import annotations

import json
import shutil
import textwrap

import pandas as pd

#: Longer lines are hard to read.
LONGEST = 116


def screen_width() -> int:
    """Columns of the terminal, ``LONGEST`` at most; 80 where the output is no terminal."""
    return min(LONGEST, shutil.get_terminal_size((80, 24)).columns)


def short_count(count) -> str:
    """``7.09 M`` for 7,087,872; an empty text for 0, a question mark for a missing value."""
    if pd.isna(count):
        return "?"
    for power, letter in ((9, "G"), (6, "M"), (3, "k")):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {letter}"
    return str(count) if count else ""


def item(name: str, text: str, width: int) -> str:
    """``name: text`` as an indented paragraph whose lines all begin where the text begins."""
    begin = f"  {name + ':':<8}"
    return textwrap.fill(
        text,
        width,
        initial_indent=begin,
        subsequent_indent=" " * len(begin),
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(frame: pd.DataFrame, width: int, left: frozenset[str] = frozenset()) -> str:
    """A frame as lines: the columns named in ``left`` flush left, all others flush right.

    Two spaces separate the columns, one where the table is wider than ``width``. Nothing is cut off or wrapped.
    """
    columns = [[str(name), *map(str, column)] for name, column in frame.items()]
    widths = [max(map(len, column)) for column in columns]
    gap = "  " if sum(widths) + 2 * len(widths) <= width else " "
    cells = [
        [text.ljust(n) if column[0] in left else text.rjust(n) for text in column]
        for column, n in zip(columns, widths)
    ]
    return "\n".join(gap.join(row).rstrip() for row in zip(*cells))


def json_records(frame: pd.DataFrame) -> list[dict]:
    """The rows of a frame as JSON values: NaN becomes null."""
    return json.loads(str(frame.to_json(orient="records")))
