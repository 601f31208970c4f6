"""The table of bad input by kind: ``python -m tests.hostile [CASES] [KIND ...]``."""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from tests.hostile.kinds import KINDS
from tests.hostile.outcomes import COLUMNS, tally


def main(count: int = 200, *names: str) -> int:
    """Print how many cases of each kind were tried, refused, taken rightly, and ended wrongly; 1 if any did."""
    print("| kind |", " | ".join(COLUMNS), "|\n|", " --- |" * (1 + len(COLUMNS)), sep="")
    wrong: list[str] = []
    for name in names or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            found = tally(KINDS[name](random.Random(0), count, Path(folder)))
        print(f"| {name} |", " | ".join(str(found.counts[column]) for column in COLUMNS), "|", flush=True)
        wrong += found.wrong
    print("\n".join(wrong[:40]), file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2]), *sys.argv[2:]))
