"""How often ``compare`` is right: equal engines, and one that is slowed by a known share, quiet and under load.

    python benchmarks/verdicts.py --pairs 200
    taskset -c 0,1 python benchmarks/verdicts.py --pairs 17 --counts a.json  # one of many, on its own cores
    python benchmarks/verdicts.py --merge a.json b.json ...                  # their table

Three sessions of the tutorial's model (batch 1, one thread) are timed in interleaved rounds. Two are equal; the
third works after every call for 5 % of what the call took, a real delay within the timed call. Compared are the
equal two, and the slower one with an equal one. Load is twice as many busy processes as there are cores that the
benchmark may use, which work and sleep for random times. Printed are the shares of each verdict, with Wilson's
95 % intervals.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
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
from workbench.backends.hardware.cpu import cores
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


#: Busy processes, seconds of each session, and the share by which one is slower.
Condition = tuple[int, float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seconds", type=float, nargs="+", default=[1.0, 4.0])
    parser.add_argument("--load", nargs="+", choices=("quiet", "busy"), default=["quiet", "busy"])
    parser.add_argument("--stop-after", type=float, default=float("inf"), help="seconds; fewer pairs where it ends")
    parser.add_argument("--counts", type=Path, help="file that gets the verdicts after each pair")
    parser.add_argument("--merge", type=Path, nargs="+", help="such files; their sum is printed, nothing is timed")
    asked = parser.parse_args()
    if asked.merge:
        show(sum((read(file) for file in asked.merge), Counter()))
        return
    found: Counter = Counter()
    with contextlib.closing(pairs(asked)) as timed:
        for verdict in timed:
            found.update(verdict)
            if asked.counts:
                write(found, asked.counts)
    show(found)


def pairs(asked) -> Generator[list[tuple[Condition, str]]]:
    """The two verdicts of each pair, each with its condition."""
    end = time.monotonic() + asked.stop_after
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        spec, params = wb.load_checkpoint(CHECKPOINT)
        variant = wb.apply_recipe(wb.export_onnx(spec, params, folder), wb.Recipe(), folder)
        engine = wb.build_engine(variant, "onnxruntime", folder, options={"threads": 1})
        subject = Subject.of(engine)
        feeds = subject.feeds(one_batch(subject, None, 1))
        shares = {"first": 0.0, "second": 0.0, "slower": SLOWER}
        sessions = {name: Delayed(stack.enter_context(wb.open_engine(engine)), s) for name, s in shares.items()}
        for kind in asked.load:
            processes = 2 * cores() if kind == "busy" else 0
            with load(processes):
                for _, seconds in itertools.product(range(asked.pairs), asked.seconds):
                    if time.monotonic() + 3 * seconds > end:
                        return
                    said = verdicts(sessions, feeds, seconds)
                    yield [((processes, seconds, share), one) for share, one in zip((0.0, SLOWER), said)]


def write(found: Counter, file: Path) -> None:
    """Keep the verdicts counted so far; the file is whole at any moment."""
    draft = file.with_suffix(".part")
    draft.write_text(json.dumps([[*condition, verdict, count] for (condition, verdict), count in found.items()]))
    draft.replace(file)


def read(file: Path) -> Counter:
    """What ``write`` kept."""
    rows = json.loads(file.read_text())
    return Counter({((processes, seconds, share), said): count for processes, seconds, share, said, count in rows})


def show(found: Counter) -> None:
    """Print the table."""
    print("| load | seconds | slower by | pairs | called slower | called faster | cannot tell |")
    print("| --- " * 7 + "|")
    for condition in sorted({condition for condition, _ in found}):
        print(row(*condition, Counter({said: n for (other, said), n in found.items() if other == condition})))


def row(processes: int, seconds: float, share: float, verdicts: Counter) -> str:
    """A row of the table."""
    total = verdicts.total()

    def rate(verdict: str) -> str:
        low, high = wilson(verdicts[verdict], total)
        return f"{verdicts[verdict] / total:.1%} [{low:.1%}, {high:.1%}]"

    name = f"{processes} processes" if processes else "quiet"
    cells = (name, f"{seconds:g}", f"{share:.0%}", str(total), rate("slower"), rate("faster"), rate("cannot tell"))
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
