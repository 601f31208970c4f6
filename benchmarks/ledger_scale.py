"""A ledger of 100,000 measurements: how long frame() and pareto() take, and what a measurement costs to append.

The measurements are made up: 50 calls and 200 predictions each, of 2,000 recipes at 10 batch sizes on 5 hosts. The
frame is read in a process that has not seen the ledger before, and once more in the same process.

    python benchmarks/ledger_scale.py [COUNT]
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import workbench as wb
from workbench.records import Measurement, Window
from workbench.studies.plan import Cell, Plan
from workbench.studies.plan_store import keep_plan
from workbench.studies.results import study_results
from workbench.studies.summaries import MEASUREMENT

HOSTS, BATCHES, CALLS, IMAGES = ("onnxruntime", "orin", "t4", "l4", "laptop"), range(1, 11), 50, 200
#: Seconds that are promised for 100,000 measurements.
FRAME_S, PARETO_S = 2.0, 0.2


def cells(count: int) -> Iterator[Cell]:
    """So many cells, recipe by recipe."""
    for number in range(count):
        recipe, host, batch = number // 50, HOSTS[number % 5], BATCHES[number // 5 % 10]
        made = wb.Recipe("int8", layout="cpu", exclude=(f"block{recipe:04d}",))
        yield Cell(made, "onnxruntime", batch, host, key=f"cell {number}")


def measurement(cell: Cell, rng: random.Random) -> Measurement:
    """A made-up measurement of a cell."""
    latencies = tuple(1e-3 * cell.batch * rng.lognormvariate(0, 0.1) for _ in range(CALLS))
    window, labels = Window((CALLS,), (sum(latencies),)), tuple(rng.randrange(10) for _ in range(IMAGES))
    wrong = tuple(label if rng.random() < 0.9 else 0 for label in labels)
    return Measurement(
        cell.backend, "made-up", cell.recipe, cell.batch, "v", latencies, end_to_end=window, compute=window,
        predictions=wrong, labels=labels, reference_predictions=labels, run_id="made up",
    )  # fmt: skip


def fill(folder: Path, count: int) -> None:
    """Write the ledger, a thousand measurements in a transaction."""
    workspace, rng, plan = wb.Workspace(folder), random.Random(0), tuple(cells(count))
    keep_plan(workspace, Plan("scale", "made up", plan))
    seconds = 0.0
    for first in range(0, count, 1000):
        made = [(cell.key, measurement(cell, rng)) for cell in plan[first : first + 1000]]
        begin = time.perf_counter()
        workspace.append_all(MEASUREMENT, made)
        seconds += time.perf_counter() - begin
    size = (folder / "ledger.sqlite3").stat().st_size / 2**20
    print(
        f"{count:,} measurements appended in {seconds:.0f} s ({1e6 * seconds / count:.0f} µs each), {size:.0f} MiB"
    )
    begin = time.perf_counter()
    for cell in plan[:200]:
        workspace.append(MEASUREMENT, cell.key, measurement(cell, rng))
    print(f"one more, in a transaction of its own: {1e3 * (time.perf_counter() - begin) / 200:.1f} ms each, of 200")


def read(folder: Path) -> None:
    """Time the frame and the front, and run the checks on them."""
    results = study_results(folder, "scale")
    for when in ("first", "second"):
        begin = time.perf_counter()
        frame = study_results(folder, "scale").frame()
        middle = time.perf_counter()
        front = results.pareto()
        frame_s, pareto_s = middle - begin, time.perf_counter() - middle
        assert set(frame.execution) == {"executed"}
        assert 0 < len(front) < len(frame)
        print(
            f"{when} reading of {len(frame):,} rows: frame() {frame_s:.2f} s (promised {FRAME_S:g}), pareto()"
            f" {pareto_s:.3f} s (promised {PARETO_S:g}), {len(front)} on the front"
        )


def main(count: int) -> None:
    """Fill a ledger, and read it in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), count)
        reader = multiprocessing.get_context("spawn").Process(target=read, args=(Path(folder),))
        reader.start()
        reader.join()
        if reader.exitcode:
            raise SystemExit(reader.exitcode)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
