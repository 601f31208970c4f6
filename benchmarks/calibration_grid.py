"""What calibration costs: four range methods on five calibration sets, for the shipped model and one with outliers.

    python benchmarks/calibration_grid.py [--images 4000] [--out data/recorded/calibration]

writes the records that notebook 04 shows, a file for each model. It takes some ten minutes on two quiet cores, and
what was classified before is not classified again while the workspace is there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import workbench as wb
from workbench.backends.hardware.cpu import environment
from workbench.graphs.quantization.outliers import with_norm_outliers
from workbench.studies.calibration_grid import FOLDER, calibration_grid, write_grid

CHECKPOINT = Path(__file__).parents[1] / "data" / "checkpoints" / "shapes-vit.npz"
#: How many times larger two channels of each LayerNorm are made; notebook 04's parameter ``outlier``.
FACTOR = 100.0
#: Calibration images; notebook 04's parameter ``samples``.
SAMPLES = 64


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--out", type=Path, default=FOLDER)
    asked = parser.parse_args()
    plain = wb.load_graph(CHECKPOINT, asked.workspace)
    examples = wb.images("shapes", count=asked.images, size=plain.preprocessing.size)
    models = {
        "shapes-vit": (plain, "shapes-vit as trained"),
        "shapes-vit-outliers": (
            with_norm_outliers(plain, asked.workspace, factor=FACTOR),
            f"shapes-vit with two channels of each LayerNorm {FACTOR:.0f} times as large",
        ),
    }
    recipe = wb.Recipe("int8", layout="cpu", calibration=wb.Calibration("shapes", samples=SAMPLES))
    for name, (graph, words) in models.items():
        grid = calibration_grid(graph, recipe, asked.workspace, images=examples, model=words)
        asked.out.mkdir(parents=True, exist_ok=True)
        write_grid(asked.out / f"{name}.jsonl", grid, str(environment()["cpu"]))
        print(grid, grid.table().to_string(), sep="\n\n", end="\n\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
