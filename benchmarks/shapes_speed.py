"""Images of shapes drawn per second on one core: the median of several runs, and their spread."""

from __future__ import annotations

import statistics
import time

from workbench.datasets import shapes

RUNS, IMAGES = 9, 160


def main() -> None:
    shapes.generate(range(16))  # tables and grids are made once
    speeds = []
    for run in range(RUNS):
        start = time.perf_counter()
        shapes.generate(range(run * IMAGES, (run + 1) * IMAGES))
        speeds.append(IMAGES / (time.perf_counter() - start))
    low, *_, high = sorted(speeds)
    print(
        f"shapes at {shapes.SIZE} x {shapes.SIZE}: {statistics.median(speeds):.0f} images/s on one core"
        f" ({low:.0f} to {high:.0f} in {RUNS} runs of {IMAGES} images)"
    )


if __name__ == "__main__":
    main()
