"""Progress on standard error."""

from __future__ import annotations

import sys
import time


class ProgressLine:
    """A ``progress.Progress``: one line that is rewritten on a terminal, one line for each stage elsewhere.

    A context manager, which ends the line. (rich shows no progress where the output is no terminal, such as in CI.)
    """

    def __init__(self, stream=None):
        self.stream = stream or sys.stderr
        self.on_terminal = self.stream.isatty()
        self.stage, self.begin, self.width = None, time.monotonic(), 0

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *error) -> None:
        if self.on_terminal and self.width:
            print(file=self.stream)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show how much of a stage is done."""
        if not self.on_terminal and stage == self.stage:
            return
        self.stage = stage
        line = f"{100 * done // max(total, 1):3d} %  {time.monotonic() - self.begin:5.0f} s  {stage}"
        begin, end = ("\r", "") if self.on_terminal else ("", "\n")
        print(begin + line.ljust(self.width), end=end, file=self.stream, flush=True)
        self.width = len(line) if self.on_terminal else 0
