"""What the precisions of the next cards cost on 10,000 held-out ``shapes`` images with the shipped checkpoint.

A table with a row per recipe: how it was computed, the size of its file as a share of FP32's, and the points of
top-1 lost, with their 95 % interval. Block-scaled types and 16-bit ones are emulated number for number; weight-only
variants in the cpu layout execute on ONNX Runtime, INT4 by its ``MatMulNBits``. Searches look for the fewest places
to leave in FP16, on calibration images that the table does not use.

    python benchmarks/low_precision_accuracy.py [--images 10000] [--searched 1000] [--processes 24]

A run that was interrupted continues where it stopped: predictions are kept in the workspace, five hundred images at
a time. With ``--processes`` so many of these parts are computed at a time, beside the searches. It fails where a
loss is above its limit; with fewer than 10,000 images, where the whole interval is.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
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
JUDGED, PART = 10_000, 500
#: Cores of each search, where several processes compute.
SEARCH_CORES = 6


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
    Limit(wb.Recipe("wfp4")),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=JUDGED)
    parser.add_argument("--searched", type=int, default=1_000, help="images that searches are judged by")
    parser.add_argument("--workspace", type=Path, default=ROOT / "runs" / "low-precision")
    parser.add_argument("--processes", type=int, default=1, help="that compute parts of the images at a time")
    asked = parser.parse_args()
    graph = wb.export_onnx(*wb.load_checkpoint(CHECKPOINT), asked.workspace)
    table = Table(graph, wb.Workspace(asked.workspace), asked.images, asked.searched)
    if asked.processes > 1:
        Ahead(table, asked.processes).compute()
    print(f"fp32: top-1 {(table.reference == table.images.labels).mean():.2%}, {asked.images:,} images")
    return sum([not table.holds(limit) for limit in LIMITS])


@dataclass(frozen=True, eq=False)
class Table:
    """A graph, how many images judge its variants, and how many others a search looks at."""

    graph: wb.Graph
    workspace: wb.Workspace
    judged: int
    searched: int

    @cached_property
    def images(self) -> ImageSet:
        """The images that judge."""
        return wb.images("shapes", count=self.judged)

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
        return searched(self.graph, limit, self.workspace, self.searched)

    def classes(self, variant: wb.Variant) -> np.ndarray:
        """What a variant takes every image for, a part of the images at a time."""
        engine = wb.build_engine(variant, "onnxruntime", self.workspace)
        return np.concatenate([predicted(engine, part, self.workspace) for part in self.parts()])

    def parts(self) -> list[ImageSet]:
        """The images, ``PART`` at a time."""
        pixels, labels = self.images.pixels, self.images.labels
        slices = [slice(start, start + PART) for start in range(0, len(labels), PART)]
        return [dataclasses.replace(self.images, pixels=pixels[rows], labels=labels[rows]) for rows in slices]


def predicted(engine: wb.Engine, part: ImageSet, workspace: wb.Workspace) -> np.ndarray:
    """What an engine takes some images for, computed or kept."""
    inputs = ["benchmark", part.pixels]
    return predictions_of(engine, part.x, part.labels, workspace, inputs, silent).classes


def searched(graph: wb.Graph, limit: Limit, workspace: wb.Workspace, count: int) -> wb.Recipe:
    """The recipe with the fewest excluded places that a search finds on so many calibration images."""
    others = wb.images("shapes", split="calibration", count=count, seed=1)
    found = wb.search_recipe(
        graph, limit.recipe, workspace, max_drop=limit.searched_for, images=others.x, labels=others.labels
    )
    print(f"search: {found}", flush=True)
    return found.recipe


# ---- several processes -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Ahead:
    """Computes the searches and all predictions of a table in several processes, so that it finds them kept.

    A search has ``SEARCH_CORES`` cores, a process that predicts one thread, with less priority than the searches,
    which nothing else can overtake.
    """

    table: Table
    processes: int

    def compute(self) -> None:
        """Keep everything in the workspace; the first error of a process is raised."""
        begin, spawned = time.perf_counter(), multiprocessing.get_context("spawn")
        fixed = [wb.Recipe(), *(limit.recipe for limit in LIMITS if limit.searched_for is None)]
        open_limits = [limit for limit in LIMITS if limit.searched_for is not None]
        with (
            ProcessPoolExecutor(len(open_limits), mp_context=spawned) as searching,
            ProcessPoolExecutor(self.processes, mp_context=spawned, initializer=os.nice, initargs=(10,)) as pool,
        ):
            searches = [searching.submit(_search_on, *task) for task in self._searches(open_limits)]
            parts = [part for recipe in fixed for part in self._submitted(pool, recipe)]
            for search in as_completed(searches):
                parts += self._submitted(pool, search.result())
            for count, part in enumerate(as_completed(parts), 1):
                part.result()
                if count % 10 == 0 or count == len(parts):
                    seconds = time.perf_counter() - begin
                    print(f"{count} of {len(parts)} parts, {seconds:.0f} s", file=sys.stderr, flush=True)

    def _searches(self, limits: list[Limit]) -> Iterable[tuple]:
        table, allowed = self.table, sorted(os.sched_getaffinity(0))
        for index, limit in enumerate(limits):
            own = [allowed[(SEARCH_CORES * index + i) % len(allowed)] for i in range(SEARCH_CORES)]
            yield set(own), table.graph, limit, table.workspace.path, table.searched

    def _submitted(self, pool: ProcessPoolExecutor, recipe: wb.Recipe) -> list[Future]:
        table = self.table
        variant = emulated(wb.apply_recipe(table.graph, recipe, table.workspace), table.workspace)
        engine = wb.build_engine(variant, "onnxruntime", table.workspace, options={"threads": 1})
        return [pool.submit(_predict, engine, part, table.workspace.path) for part in table.parts()]


def _search_on(own: set[int], graph: wb.Graph, limit: Limit, folder: Path, count: int) -> wb.Recipe:
    os.sched_setaffinity(0, own)
    return searched(graph, limit, wb.Workspace(folder), count)


def _predict(engine: wb.Engine, part: ImageSet, folder: Path) -> None:
    predicted(engine, part, wb.Workspace(folder))


def _keeps(limit: float | None, lost: float, interval: Iterable[float], images: int) -> bool:
    if limit is None:
        return True
    low, high = interval
    return lost <= limit if images >= JUDGED else holds_limit((low, high), limit) != FAILS


if __name__ == "__main__":
    sys.exit(main())
