"""Is ``wb.tune`` within 3 % of the best of the whole grid, with at most a third of its measurements?

    python benchmarks/tuning.py [--seconds 1] [--max-batch 64] [--backend onnxruntime]

The tutorial's model in FP32 is tuned without a limit and under a p99. Then every setting of the grid is measured in
the same way, the chosen one among them; the chosen one is measured again beside the best of the grid, five times in
turns, because the largest of many noisy figures is too large.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import workbench as wb
from workbench.backends.hardware.cpu import cores
from workbench.records import Engine, Variant
from workbench.studies.tuning import Tuning, measured_closed
from workbench.studies.tuning_search import Grid, Setting

CHECKPOINT = Path(__file__).parents[1] / "data" / "checkpoints" / "shapes-vit.npz"
WITHIN, SHARE, REPEATS = 0.97, 1 / 3, 5


def share_of_best(tuned: Tuning, best: Setting, engine: Engine, seconds: float) -> float:
    """Throughput of the setting that was chosen over that of the grid's best, medians of measurements in turns."""
    rates: dict[Setting, list[float]] = {tuned.best.setting: [], best: []}
    for _ in range(REPEATS):
        for setting, found in rates.items():
            found.append(measured_closed(engine, setting, None, seconds).images_per_second)
    return median(rates[tuned.best.setting]) / median(rates[best])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--max-batch", type=int, default=64)
    parser.add_argument("--backend", default="onnxruntime")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        spec, params = wb.load_checkpoint(CHECKPOINT)
        variant = wb.apply_recipe(wb.export_onnx(spec, params, folder), wb.Recipe(), folder)
        return max(_check(variant, folder, asked, limit) for limit in (None, 50.0))


def _check(variant: Variant, folder: str, asked, limit: float | None) -> int:
    """Tune, measure the grid, print both, and return 1 where a promise is broken."""
    given = {"max_latency_ms": limit, "max_batch": asked.max_batch, "seconds": asked.seconds}
    tuned = wb.tune(variant, asked.backend, folder, **given)
    print(tuned, flush=True)
    powers = [1 << power for power in range(asked.max_batch.bit_length())]
    grid = Grid(tuple(powers), tuple(sorted({1, 2, 4} & set(range(1, min(cores(), 4) + 1)))))
    engine = wb.build_engine(variant, asked.backend, folder, batches=tuned.engine.batches)
    points = [measured_closed(engine, setting, limit, asked.seconds) for setting in grid.settings()]
    allowed = [point for point in points if point.allowed]
    best = max(allowed, key=lambda point: point.images_per_second)
    share = share_of_best(tuned, best.setting, engine, asked.seconds)
    print(
        f"The grid's best is {best.setting}, {best.images_per_second:,.0f} images/s; in turns the chosen one has"
        f" {share:.1%} of its throughput (promised {WITHIN:.0%}), after {len(tuned.points)} of {grid.size}"
        f" measurements (promised {SHARE:.0%})\n",
        flush=True,
    )
    return int(share < WITHIN or len(tuned.points) > max(2, SHARE * grid.size))


if __name__ == "__main__":
    sys.exit(main())
