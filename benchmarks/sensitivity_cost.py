"""What a sensitivity map costs: seconds per place beside one evaluation of the FP32 graph on the same images.

The evaluation is ``wb.measure`` on ONNX Runtime, before and after the map, so that a drift of the machine shows.

    python benchmarks/sensitivity_cost.py [--images 512]

It fails where a place costs more than 1.5 evaluations.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import workbench as wb
from workbench.graphs.analysis.sensitivity import BATCH

CHECKPOINT = Path(__file__).parents[1] / "data" / "checkpoints" / "shapes-vit.npz"
MOST = 1.5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    asked = parser.parse_args()
    spec, params = wb.load_checkpoint(CHECKPOINT)
    examples = wb.images("shapes", count=asked.images)
    with tempfile.TemporaryDirectory() as folder:
        graph = wb.export_onnx(spec, params, folder)
        recipe = wb.Recipe("int8", scope="attention")
        wb.calibrate(graph, recipe.calibration, folder, scope=recipe.scope)  # paid once, for any use of the ranges
        engine = wb.build_engine(wb.apply_recipe(graph, wb.Recipe(), folder), "onnxruntime", folder)
        before = evaluation(engine, examples)
        begin = time.perf_counter()
        found = wb.sensitivity(graph, recipe, folder, images=examples.x, labels=examples.labels)
        each = (time.perf_counter() - begin) / len(found.rows)
        once = [before, evaluation(engine, examples)]
    ratio = each / np.mean(once)
    print(f"one evaluation of {asked.images} images: {once[0]:.2f} s before, {once[1]:.2f} s after")
    print(f"one of {len(found.rows)} places: {each:.2f} s")
    print(f"{'holds ' if ratio <= MOST else 'BROKEN'} at most {MOST} evaluations a place: {ratio:.2f}")
    return int(ratio > MOST)


def evaluation(engine: wb.Engine, examples) -> float:
    """Seconds to classify all images once, loading the engine included."""
    known = np.zeros(len(examples), np.int64)  # a reference, so that none is computed
    begin = time.perf_counter()
    wb.measure(engine, examples.x, examples.labels, batch=BATCH, reference=known, seconds=0)
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
