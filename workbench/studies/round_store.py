"""The rounds of timed calls of a study in its ledger: what an interrupted run took is not taken again."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from ..measuring.timing import Round
from ..workspace import Workspace

#: The kind of these observations in the ledger.
ROUNDS = "interleaved rounds"
#: Seconds between two writes: a killed study takes no more than these again.
WRITE_EVERY_S = 0.5


@dataclass(frozen=True)
class TakenRounds:
    """Rounds of one cell that were written together; a write for each would take as long as a round."""

    rounds: tuple[Round, ...]


class RoundStore:
    """The rounds of some cells, those of earlier runs included; leaving its ``with`` block writes the last ones.

    Attributes:
        rounds: for each cell's key its rounds so far.
    """

    def __init__(self, workspace: Workspace, keys: Iterable[str]):
        self._workspace = workspace
        self.rounds: dict[str, list[Round]] = {
            key: [one for each in workspace.observations(ROUNDS, TakenRounds, key) for one in each.rounds]
            for key in keys
        }
        self._written = {key: len(rounds) for key, rounds in self.rounds.items()}
        self._due = time.monotonic() + WRITE_EVERY_S

    def add(self, key: str, one: Round) -> None:
        """Keep a round that was taken now."""
        self.rounds[key].append(one)
        if time.monotonic() >= self._due:
            self._write()

    def _write(self) -> None:
        for key, rounds in self.rounds.items():
            if new := tuple(rounds[self._written[key] :]):
                self._workspace.append(ROUNDS, key, TakenRounds(new))
                self._written[key] = len(rounds)
        self._due = time.monotonic() + WRITE_EVERY_S

    def __enter__(self) -> RoundStore:
        return self

    def __exit__(self, *raised) -> None:
        self._write()
