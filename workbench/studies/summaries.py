"""The row of each measurement, computed when it is written: a frame of 100,000 cells reads no raw value.

A summary is kept beside its measurement in the ledger. It is computed again where other code made it, or none.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..code_version import code_digest
from ..ledger import Ledger, Summarised, Summary
from ..records import Measurement
from ..workspace import SUMMARIES, Workspace
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
        last: the number in the ledger of the newest measurement among them; 0 where there is none.
    """

    place: dict[str, int]
    numbers: np.ndarray
    words: list[list[str]]
    last: int


def newest_of(workspace: Workspace, keys: Iterable[str] | None = None) -> Newest:
    """The newest measurement of all cells in the workspace, or of some, from their summaries."""
    ledger = Ledger(workspace.path)
    found = ledger.summarised(MEASUREMENT, _version(), keys)
    missing = [row for row in found if row.words is None]
    made = {row.number: summary for row, summary in zip(missing, _made(workspace, ledger, missing))}
    numbers = b"".join(row.numbers if row.numbers is not None else made[row.number].numbers for row in found)
    words = ",".join(row.words if row.words is not None else made[row.number].words for row in found)
    return Newest(
        {row.key: place for place, row in enumerate(found)},
        np.frombuffer(numbers, np.float64).reshape(len(found), len(NUMBERS)),
        json.loads(f"[{words}]"),
        max((row.number for row in found), default=0),
    )


def _made(workspace: Workspace, ledger: Ledger, rows: Sequence[Summarised]) -> Iterable[Summary]:
    """Summaries of measurements that have none of this version; they are kept for the next time."""
    for begin in range(0, len(rows), AT_A_TIME):
        some = rows[begin : begin + AT_A_TIME]
        summaries = [summary_of(workspace.decoded(Measurement, ledger.body(row.number))) for row in some]
        ledger.keep((row.number, summary) for row, summary in zip(some, summaries))
        yield from summaries


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
