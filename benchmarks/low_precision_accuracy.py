"""What the precisions of the next cards cost on 10,000 held-out ``shapes`` images with the shipped checkpoint.

A table with a row per recipe: how it was computed, the size of its file as a share of FP32's, and the points of
top-1 lost, with their 95 % interval. Block-scaled types and 16-bit ones are emulated number for number; weight-only
variants in the cpu layout execute on ONNX Runtime, INT4 by its ``MatMulNBits``. Searches look for the fewest places
to leave in FP16, on calibration images that the table does not use.

    python benchmarks/low_precision_accuracy.py [--images 10000] [--searched 1000] [--workspace runs/low-precision]

A run that was interrupted continues where it stopped: predictions are kept in the workspace, a thousand images at a
time. It fails where a loss is above its limit; with fewer than 10,000 images, where the whole interval is.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

import workbench as wb
from workbench.datasets import ImageSet
from workbench.graphs.quantization.emulation import emulated
from workbench.progress import silent
from workbench.statistics.intervals import discordant_pairs, paired_interval
from workbench.statistics.verdict import FAILS, holds_limit
from workbench.studies.predictions import predictions_of

ROOT = Path(__file__).parents[1]
CHECKPOINT = ROOT / "data" / "checkpoints" / "shapes-vit.npz"
JUDGED, PART = 10_000, 1_000


@dataclass(frozen=True)
class Limit:
    """A recipe, the points of top-1 that it may lose, and whether places may be left in FP16 to hold that.

    A search aims lower than the limit, at ``searched_for``, because other images than its own will judge.
    """

    recipe: wb.Recipe
    points: float | None = None
    searched_for: float | None = None


LIMITS = (
    Limit(wb.Recipe("fp16")),
    Limit(wb.Recipe("mxfp8"), 0.3),
    Limit(wb.Recipe("nvfp4")),
    Limit(wb.Recipe("nvfp4"), 1.0, searched_for=0.5),
    Limit(wb.Recipe("w8"), 0.2),
    Limit(wb.Recipe("w8", layout="cpu"), 0.2),
    Limit(wb.Recipe("w4")),
    Limit(wb.Recipe("w4", layout="cpu")),
    Limit(wb.Recipe("w4"), 0.7, searched_for=0.4),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=JUDGED)
    parser.add_argument("--searched", type=int, default=1_000, help="images that searches are judged by")
    parser.add_argument("--workspace", type=Path, default=ROOT / "runs" / "low-precision")
    asked = parser.parse_args()
    graph = wb.export_onnx(*wb.load_checkpoint(CHECKPOINT), asked.workspace)
    table = Table(graph, wb.Workspace(asked.workspace), wb.images("shapes", count=asked.images), asked.searched)
    print(f"fp32: top-1 {(table.reference == table.images.labels).mean():.2%}, {asked.images:,} images")
    return sum([not table.holds(limit) for limit in LIMITS])


@dataclass(frozen=True, eq=False)
class Table:
    """A graph, the images that judge its variants, and how many others a search looks at."""

    graph: wb.Graph
    workspace: wb.Workspace
    images: ImageSet
    searched: int

    @cached_property
    def reference(self) -> np.ndarray:
        """The classes that the FP32 graph gives."""
        return self.classes(wb.apply_recipe(self.graph, wb.Recipe(), self.workspace))

    def holds(self, limit: Limit) -> bool:
        """Print the row of one recipe; whether it keeps its limit."""
        begin = time.perf_counter()
        recipe = self.found_by_search(limit) if limit.searched_for is not None else limit.recipe
        variant = wb.apply_recipe(self.graph, recipe, self.workspace)
        size = variant.path.stat().st_size / self.graph.path.stat().st_size
        run = emulated(variant, self.workspace)
        classes, labels, count = self.classes(run), self.images.labels, len(self.images)
        pairs = discordant_pairs(self.reference == labels, classes == labels)
        lost, (low, high) = 100 * (pairs[0] - pairs[1]) / count, paired_interval(*pairs, count)
        kept = _keeps(limit.points, lost, (100 * low, 100 * high), count)
        verdict = "" if limit.points is None else f"{'holds' if kept else 'BROKEN'}: at most {limit.points:g}"
        how, agreed = "executed" if run is variant else "emulated", (classes == self.reference).mean()
        print(
            f"{recipe.label:28s} {how:9s} {size:5.2f} of FP32's file, lost {lost:+.2f} points "
            f"({100 * low:+.2f} to {100 * high:+.2f}), agrees {agreed:7.2%}, {time.perf_counter() - begin:4.0f} s  "
            f"{verdict}",
            flush=True,
        )
        return kept

    def found_by_search(self, limit: Limit) -> wb.Recipe:
        """The recipe with the fewest excluded places that a search finds on calibration images."""
        others = wb.images("shapes", split="calibration", count=self.searched, seed=1)
        found = wb.search_recipe(
            self.graph,
            limit.recipe,
            self.workspace,
            max_drop=limit.searched_for,
            images=others.x,
            labels=others.labels,
        )
        print(f"search: {found}", flush=True)
        return found.recipe

    def classes(self, variant: wb.Variant) -> np.ndarray:
        """What a variant takes every image for, a part of the images at a time."""
        engine = wb.build_engine(variant, "onnxruntime", self.workspace)
        return np.concatenate([self._part(engine, start) for start in range(0, len(self.images), PART)])

    def _part(self, engine: wb.Engine, start: int) -> np.ndarray:
        rows = slice(start, start + PART)
        part = dataclasses.replace(self.images, pixels=self.images.pixels[rows], labels=self.images.labels[rows])
        inputs = ["benchmark", part.pixels]
        return predictions_of(engine, part.x, part.labels, self.workspace, inputs, silent).classes


def _keeps(limit: float | None, lost: float, interval: Iterable[float], images: int) -> bool:
    if limit is None:
        return True
    low, high = interval
    return lost <= limit if images >= JUDGED else holds_limit((low, high), limit) != FAILS


if __name__ == "__main__":
    sys.exit(main())
