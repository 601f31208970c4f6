"""How often ``compare`` is right: equal engines, and one that is slowed by a known share, quiet and under load.

    python benchmarks/verdicts.py --pairs 200

Three sessions of the tutorial's model (batch 1, one thread) are timed in interleaved rounds. Two are equal; the
third works after every call for 5 % of what the call took, a real delay within the timed call. Compared are the
equal two, and the slower one with an equal one. Load is twice as many busy processes as there are cores, which
work and sleep for random times. Printed are the shares of each verdict, with Wilson's 95 % intervals.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import workbench as wb
from workbench.backends.base import Session
from workbench.measuring import Subject
from workbench.measuring.measurement import one_batch
from workbench.measuring.timing import interleaved_rounds, joined
from workbench.records import Measurement, Recipe, wilson
from workbench.statistics.compare import compare

CHECKPOINT = Path(__file__).parents[1] / "data" / "checkpoints" / "shapes-vit.npz"
SLOWER = 0.05


class Delayed(Session):
    """A session each of whose calls takes a share longer than it does."""

    def __init__(self, session: Session, share: float):
        self._session, self._share = session, share

    def run(self, feeds):
        return self._session.run(feeds)

    def time(self, feeds, repeats):
        return [self._timed(feeds) for _ in range(repeats)]

    def _timed(self, feeds) -> float:
        begin = time.perf_counter()
        self._session.run(feeds)
        end = time.perf_counter()
        while time.perf_counter() < end + self._share * (end - begin):
            pass
        return time.perf_counter() - begin

    def memory(self) -> int:
        return self._session.memory()


def busy(seed: int) -> None:
    """Compute and sleep in turns of random length, until killed."""
    rng = random.Random(seed)
    while True:
        end = time.perf_counter() + rng.expovariate(5)
        while time.perf_counter() < end:
            pass
        time.sleep(rng.expovariate(20))


@contextlib.contextmanager
def load(processes: int) -> Generator[None]:
    """So many busy processes."""
    spawned = multiprocessing.get_context("spawn")  # JAX runs threads here, which a fork would break
    running = [spawned.Process(target=busy, args=(n,), daemon=True) for n in range(processes)]
    for process in running:
        process.start()
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.join()


def measured(rounds: list) -> Measurement:
    """A measurement of one session's rounds."""
    latency = joined(rounds, "pair")
    return Measurement(
        "onnxruntime",
        "shapes-vit",
        Recipe(),
        1,
        "v",
        latency.seconds,
        rounds=latency.rounds,
        environment={"interleaved": "pair"},
    )


def verdicts(sessions: dict[str, Session], feeds, seconds: float) -> tuple[str, str]:
    """What is said of two equal sessions, and of the slower one against an equal one."""
    rounds: dict[str, list] = {name: [] for name in sessions}
    taken = dict.fromkeys(sessions, ())
    for name, one in interleaved_rounds(taken, lambda name: (sessions[name], feeds), seconds=seconds):
        rounds[name].append(one)
    first, second, slower = (measured(rounds[name]) for name in ("first", "second", "slower"))
    return compare(first, second).speed, compare(slower, second).speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seconds", type=float, nargs="+", default=[1.0, 4.0])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        spec, params = wb.load_checkpoint(CHECKPOINT)
        variant = wb.apply_recipe(wb.export_onnx(spec, params, folder), wb.Recipe(), folder)
        engine = wb.build_engine(variant, "onnxruntime", folder, options={"threads": 1})
        subject = Subject.of(engine)
        feeds = subject.feeds(one_batch(subject, None, 1))
        shares = {"first": 0.0, "second": 0.0, "slower": SLOWER}
        sessions = {name: Delayed(stack.enter_context(wb.open_engine(engine)), s) for name, s in shares.items()}
        print("| load | seconds | slower by | called slower | called faster | cannot tell |", flush=True)
        print("| --- " * 6 + "|", flush=True)
        for processes, seconds in itertools.product((0, 2 * (os.cpu_count() or 1)), options.seconds):
            with load(processes):
                found = [verdicts(sessions, feeds, seconds) for _ in range(options.pairs)]
            for share, column in zip((0.0, SLOWER), zip(*found)):
                print(row(processes, seconds, share, Counter(column)), flush=True)


def row(processes: int, seconds: float, share: float, verdicts: Counter) -> str:
    """A row of the table."""
    total = verdicts.total()

    def rate(verdict: str) -> str:
        low, high = wilson(verdicts[verdict], total)
        return f"{verdicts[verdict] / total:.1%} [{low:.1%}, {high:.1%}]"

    name = f"{processes} processes" if processes else "quiet"
    cells = (name, f"{seconds:g}", f"{share:.0%}", rate("slower"), rate("faster"), rate("cannot tell"))
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
