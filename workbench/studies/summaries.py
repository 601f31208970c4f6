"""The row of each measurement, computed when it is written: a frame of 100,000 cells reads no raw value.

A summary is kept beside its measurement in the ledger. It is computed again where other code made it, or none.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..code_version import code_digest
from ..ledger import Ledger, Summary
from ..records import Measurement
from ..workspace import SUMMARIES, Workspace, record_in
from . import frame
from .frame import NUMBERS, WORDS

#: The kind of measurements in the ledger.
MEASUREMENT = "measurement"
#: The place of ``execution`` in the words of a summary.
EXECUTION = WORDS.index("execution")
#: Measurements that are read and summarised at a time.
AT_A_TIME = 256


@dataclass(frozen=True)
class Newest:
    """The newest measurement of each of many cells, as columns.

    Attributes:
        place: key of a cell -> its row.
        numbers: float64 (N, len(NUMBERS)).
        words: for each row the values of ``WORDS``, and the card.
        last_key: key of the cell that was measured last; empty where none was.
    """

    place: dict[str, int]
    numbers: np.ndarray
    words: list[list[str]]
    last_key: str


def newest_of(workspace: Workspace, keys: Iterable[str] | None = None) -> Newest:
    """The newest measurement of all cells in the workspace, or of some, from their summaries."""
    ledger = Ledger(workspace.path)
    found = ledger.summarised(MEASUREMENT, _version(), keys)
    if missing := {number: key for number, key, _, words in found if words is None}:
        made = dict(_made(workspace, ledger, missing))
        found = [(row[0], row[1], *made[row[0]][1:]) if row[0] in made else row for row in found]
        found = [row for row in found if row[3] is not None]  # no row of these keys can be read
    all_numbers, all_words = b"".join(row[2] for row in found), ",".join(row[3] for row in found)
    return Newest(
        {row[1]: place for place, row in enumerate(found)},
        np.frombuffer(all_numbers, np.float64).reshape(len(found), len(NUMBERS)),
        json.loads(f"[{all_words}]"),
        max(found, default=(0, ""))[1],
    )


def _made(workspace: Workspace, ledger: Ledger, missing: Mapping[int, str]) -> Iterator[tuple[int, Summary]]:
    """Summaries of measurements that have none of this version; they are kept for the next time.

    Where the newest row of a key cannot be read, the summary is that of the newest that can, and it is not kept.
    """
    numbers = list(missing)
    for begin in range(0, len(numbers), AT_A_TIME):
        some = numbers[begin : begin + AT_A_TIME]
        read = {number: record_in(ledger, MEASUREMENT, Measurement, ledger.row(number)) for number in some}
        made = [(number, summary_of(found)) for number, found in read.items() if found is not None]
        ledger.keep(made)
        yield from made
        for number in (number for number, found in read.items() if found is None):
            if earlier := workspace.newest(MEASUREMENT, Measurement, missing[number]):
                yield number, summary_of(earlier)


def executions(workspace: Workspace) -> dict[str, str]:
    """Key of a cell -> how its newest measurement was computed."""
    newest = newest_of(workspace)
    return {key: newest.words[place][EXECUTION] for key, place in newest.place.items()}


def summary_of(measurement: Measurement) -> Summary:
    """The numbers and words that a frame shows of a measurement."""
    numbers, words = frame.numbers_of(measurement), frame.words_of(measurement)
    return Summary(
        _version(),
        np.array([numbers[name] for name in NUMBERS], np.float64).tobytes(),
        json.dumps([*(words[name] for name in WORDS), measurement.card or ""]),
    )


@functools.cache
def _version() -> str:
    """The version of all code that a summary rests on."""
    return code_digest(frame.__name__)


SUMMARIES[MEASUREMENT] = summary_of
