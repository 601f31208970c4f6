"""What calibration costs: every range method on every calibration set, compared with FP32 on the same images.

A grid is measured in a workspace, cell by cell, or read from a file in ``data/recorded/calibration/``, whose lines
carry checksums. Both hold counts of images; points and intervals are computed when they are read.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..backends import build_engine
from ..datasets import ImageSet
from ..datasets.image_set import arrays_of
from ..digests import digest
from ..errors import WorkbenchError, one_of, refuse_unless
from ..graphs.quantization.calibration_set import with_images
from ..graphs.quantization.recipe import apply_recipe
from ..graphs.quantization.saturation import largest_weight
from ..ledger import new_run_id
from ..progress import Progress, silent
from ..project_files import project_folder
from ..records import CORRUPTIONS, METHODS, Graph, Recipe, decode, encode
from ..records.checks import positive
from ..statistics.intervals import discordant_pairs, paired_interval
from ..statistics.verdict import CANNOT_TELL, side_of
from ..workspace import Workspace
from .predictions import BATCH, predictions_of
from .signed_lines import checked, read_lines, write_lines

FORMAT, VERSION = "workbench calibration grid", 1
#: Where the grids that come with the workbench are.
FOLDER = project_folder() / "data" / "recorded" / "calibration"
TOOLS = ("onnxruntime", "onnx", "onnx-ir", "numpy")


@dataclass(frozen=True)
class CalibrationLoss:
    """How one method on one calibration set changes a model's classes.

    Attributes:
        method: how each range was chosen; one of ``METHODS``.
        variant: the calibration images; one of ``CORRUPTIONS``.
        changed: images whose top class is another than FP32's.
        only_fp32: images that FP32 alone classifies correctly.
        only_quantized: images that the quantized model alone classifies correctly.
        images: how many were classified.
    """

    method: str
    variant: str
    changed: int
    only_fp32: int
    only_quantized: int
    images: int

    def __post_init__(self):
        one_of("calibration method", self.method, METHODS)
        one_of("calibration variant", self.variant, CORRUPTIONS)
        positive(self, "images")
        counts = (self.changed, self.only_fp32, self.only_quantized)
        refuse_unless(
            all(isinstance(n, int) and 0 <= n <= self.images for n in counts)
            and self.only_fp32 + self.only_quantized <= self.changed,
            "These counts of images contradict each other",
            why=f"{counts} of {self.images}: whoever alone is right gave another class",
            remedy="count them again from the predictions",
        )

    @property
    def points_lost(self) -> float:
        """Top-1 lost against FP32, in percentage points."""
        return 100 * (self.only_fp32 - self.only_quantized) / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of ``points_lost``, see ``statistics.intervals.paired_interval``."""
        low, high = paired_interval(self.only_fp32, self.only_quantized, self.images)
        return 100 * low, 100 * high

    @property
    def verdict(self) -> str:
        """``worse`` or ``better`` than FP32, or ``cannot tell``."""
        return side_of(self.interval, 0.0, "worse", "better")


@dataclass(frozen=True)
class CalibrationGrid:
    """A row for each method and set.

    Attributes:
        model: what was quantized, in words.
        recipe: the precision and layout; its calibration gives data set and number of images.
        dataset: what the models classified.
        rows: method after method.
    """

    model: str
    recipe: Recipe
    dataset: str
    rows: tuple[CalibrationLoss, ...]

    @property
    def images(self) -> int:
        """On how many images each cell was evaluated."""
        return self.rows[0].images

    def frame(self) -> pd.DataFrame:
        """A row per cell: its fields, ``points_lost``, ``points_low``, ``points_high``, ``verdict``."""
        ends = [row.interval for row in self.rows]
        frame = pd.DataFrame([vars(row) | {"points_lost": row.points_lost} for row in self.rows])
        frame["points_low"], frame["points_high"] = [low for low, _ in ends], [high for _, high in ends]
        return frame.assign(verdict=[row.verdict for row in self.rows])

    def table(self) -> pd.DataFrame:
        """Points of top-1 lost with their 95 % interval as text: a row per method, a column per set."""
        cells = {(row.method, row.variant): _text(row) for row in self.rows}
        methods, sets = (list(dict.fromkeys(names)) for names in zip(*cells))
        table = pd.DataFrame({name: [cells[method, name] for method in methods] for name in sets}, index=methods)
        return table.rename_axis(index=None, columns=None)

    def __str__(self) -> str:
        told = [row for row in self.rows if row.verdict != CANNOT_TELL]
        worst = max(self.rows, key=lambda row: row.points_lost)
        return (
            f"{self.model}, {self.images:,} images of {self.dataset}: in {len(told)} of {len(self.rows)} cells the "
            f"loss against FP32 can be told from none. The largest is {_text(worst)} points, {worst.method} on "
            f"{worst.variant} images."
        )


def _text(row: CalibrationLoss) -> str:
    low, high = row.interval
    return f"{row.points_lost:.2f} [{low:.2f}, {high:.2f}]"


def calibration_grid(
    graph: Graph,
    recipe: Recipe,
    workspace,
    *,
    images: np.ndarray | ImageSet,
    labels: np.ndarray | None = None,
    methods: Iterable[str] = METHODS,
    sets: Iterable[str] = CORRUPTIONS,
    model: str = "",
    progress: Progress = silent,
) -> CalibrationGrid:
    """Quantize a graph with every method on every calibration set, and classify the images with each.

    Each cell is kept when it is known: a second run classifies nothing. The logits are those of the variant's own
    arithmetic, see ``backends.base.Backend.as_written``.

    Args:
        graph: a float32 graph.
        recipe: of a calibrated precision; its method and its variant of the images are replaced.
        workspace: a ``Workspace`` or a folder's path.
        images: (N, H, W, 3) float32, normalised; or an image set, whose labels are taken.
        labels: N whole numbers.
        methods: of ``METHODS``.
        sets: of ``CORRUPTIONS``.
        model: the graph in words; its spec's name when left out.
        progress: see ``progress.Progress``; stage ``calibration grid``, counted in cells.

    Raises:
        WorkbenchError: nothing is calibrated in this recipe, there are no labels, or as for ``apply_recipe``.
    """
    refuse_unless(
        recipe.needs_ranges,
        f"{recipe.precision} has no calibration to compare",
        why="its ranges are not calibrated",
        remedy="give a recipe in int8, with the images that calibrate it",
    )
    workspace = Workspace.of(workspace)
    source = images.source if isinstance(images, ImageSet) else ""
    recipe = with_images(graph, recipe, workspace, None, source)
    pixels, truth = arrays_of(images, labels)
    if truth is None:
        raise WorkbenchError("Accuracy needs labels", why="labels is None", remedy="give one label for each image")
    cells = [(method, name) for method in methods for name in sets]
    loss = _losses(graph, workspace, pixels, np.asarray(truth))
    rows = []
    for number, (method, name) in enumerate(cells):
        progress("calibration grid", number, len(cells))
        how = dataclasses.replace(recipe.calibration, method=method, variant=name)
        rows.append(loss(dataclasses.replace(recipe, calibration=how)))
    progress("calibration grid", len(cells), len(cells))
    name = model or (graph.spec.name if graph.spec else graph.path.stem)
    return CalibrationGrid(name, recipe, images.name if isinstance(images, ImageSet) else "", tuple(rows))


def _losses(graph: Graph, workspace: Workspace, images: np.ndarray, labels: np.ndarray):
    """A function from a recipe to its loss on these images, computed now or found from an earlier run."""
    seen = digest(np.ascontiguousarray(images), labels)

    def classes(recipe: Recipe) -> np.ndarray:
        variant = apply_recipe(graph, recipe, workspace)
        engine = build_engine(variant, "onnxruntime", workspace)
        return predictions_of(engine, images, labels, workspace, seen, silent, BATCH).classes

    reference = functools.cache(lambda: classes(Recipe()))

    def loss(recipe: Recipe) -> CalibrationLoss:
        def make(folder: Path, key: str) -> CalibrationLoss:
            ours, theirs, how = classes(recipe), reference(), recipe.calibration
            only_fp32, only_ours = discordant_pairs(theirs == labels, ours == labels)
            changed = int((ours != theirs).sum())
            return CalibrationLoss(how.method, how.variant, changed, only_fp32, only_ours, len(labels))

        inputs = (graph.digest, recipe, seen, largest_weight())
        return workspace.artefact("calibration loss", CalibrationLoss, inputs, make, tools=TOOLS)

    return loss


# ---- files of grids ----------------------------------------------------------------------------------------------


def write_grid(path, grid: CalibrationGrid, machine: str) -> None:
    """Write a grid to a file, a signed line for each cell.

    Args:
        path: the file; its stem is the grid's name.
        grid: what ``calibration_grid`` measured.
        machine: the processor, for readers.

    Raises:
        WorkbenchError: the file cannot be written.
    """
    day = new_run_id()[:8]
    header = {"format": FORMAT, "version": VERSION, "model": grid.model, "dataset": grid.dataset}
    header |= {"machine": machine, "day": f"{day[:4]}-{day[4:6]}-{day[6:]}", "recipe": encode(grid.recipe)}
    write_lines(Path(path), header, map(encode, grid.rows))


def read_grid(path) -> CalibrationGrid:
    """A grid from what ``write_grid`` wrote.

    Raises:
        WorkbenchError: it is no such file, or a line is missing, damaged or no cell.
    """
    remedy = "take the file from the workbench's own data/recorded, or measure the grid again"
    texts = ("model", "dataset", "machine", "day")
    header, lines = read_lines(Path(path), FORMAT, VERSION, texts=texts, remedy=remedy)
    rows = []
    for number, line in enumerate(lines, start=2):
        try:
            rows.append(decode(CalibrationLoss, checked(line)))
        except (WorkbenchError, ValueError, TypeError, KeyError, AttributeError) as error:
            why = f"{type(error).__name__}: {error}"[:300]
            raise WorkbenchError(f"Line {number} of {path} is no cell", why=why, remedy=remedy) from error
    refuse_unless(bool(rows), f"{path} is empty", why="it holds no cell", remedy=remedy)
    return CalibrationGrid(header["model"], decode(Recipe, header["recipe"]), header["dataset"], tuple(rows))


def recorded_grid(name: str = "shapes-vit") -> CalibrationGrid:
    """A grid that comes with the workbench.

    Args:
        name: of a file in ``data/recorded/calibration/``.

    Raises:
        WorkbenchError: there is no such grid, or its file was changed.
    """
    one_of("recorded grid", name, tuple(sorted(path.stem for path in FOLDER.glob("*.jsonl"))))
    return read_grid(FOLDER / f"{name}.jsonl")
