"""What each place costs in accuracy: one place is quantized at a time, and everything else stays float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ...datasets import ImageSet
from ...datasets.image_set import arrays_of
from ...digests import digest
from ...errors import refuse_unless
from ...measuring.accuracy import check_label_range, checked_labels
from ...places import place_of
from ...progress import Progress, silent
from ...records import Graph, Recipe
from ...statistics.intervals import discordant_pairs, paired_interval
from ...workspace import Workspace
from ..quantization.activations import logits_of
from ..quantization.alone import LOW, quantize_alone, scope_of
from ..quantization.calibration_set import images_of, with_images
from ..quantization.emulation import load_widened
from ..quantization.images import graph_input
from ..quantization.prepare import check_graph, prepare
from ..quantization.qdq_sites import check_excluded, place_name, qdq_sites
from ..quantization.ranges import Ranges, calibrate
from ..quantization.recipe import apply_recipe, least_opset
from ..quantization.saturation import largest_weight
from ..quantization.smoothquant import smoothed
from .selftest import check_order

TOOLS = ("onnxruntime", "onnx", "onnx-ir", "numpy")
#: Images that are classified at once.
BATCH = 16


@dataclass(frozen=True)
class PlaceLoss:
    """How a model's logits and classes change when some places are quantized and all others are not.

    Attributes:
        place: ``block03/fc2``, or a description where several were quantized.
        logit_error: ‖quantized - float‖ / ‖float‖ over the logits of all images.
        changed: images whose top class changed.
        only_float: images that the float32 model alone classifies correctly; 0 without labels.
        only_quantized: images that the quantized model alone classifies correctly; 0 without labels.
        images: how many were classified.
    """

    place: str
    logit_error: float
    changed: int
    only_float: int
    only_quantized: int
    images: int

    @property
    def block(self) -> str | None:
        """The block, or None outside the blocks."""
        found = place_of(self.place)
        return found.block if found else None

    @property
    def role(self) -> str:
        """The role of the place: ``qkv``, ``scores``, ``proj``, ``fc1``, ``fc2`` …"""
        return self.place.rsplit("/", 1)[-1]

    @property
    def points_lost(self) -> float:
        """Top-1 lost against float32, in percentage points."""
        return 100 * (self.only_float - self.only_quantized) / self.images

    @property
    def points_lost_interval(self) -> tuple[float, float]:
        """95 % interval of ``points_lost``: Tango's for paired shares, see ``statistics.intervals``."""
        low, high = paired_interval(self.only_float, self.only_quantized, self.images)
        return 100 * low, 100 * high

    def row(self) -> dict:
        """The record and its properties as one row of a table."""
        low, high = self.points_lost_interval
        where = {"block": self.block, "role": self.role}
        return {**where, **vars(self), "points_lost": self.points_lost, "points_low": low, "points_high": high}


@dataclass(frozen=True)
class Sensitivity:
    """What each place that a recipe quantizes costs alone.

    Attributes:
        rows: one per place, in the order of the graph.
        top1: the float32 model's top-1 on these images, 0...1; NaN without labels.
        images: how many were classified.
        recipe: whose precision, layout and scope were tried.
    """

    rows: tuple[PlaceLoss, ...]
    top1: float
    images: int
    recipe: Recipe

    @property
    def order(self) -> tuple[str, ...]:
        """Places from the most to the least sensitive, by logit error, which is steadier than accuracy."""
        return tuple(row.place for row in sorted(self.rows, key=lambda row: -row.logit_error))

    def frame(self):
        """One row per place, as a pandas DataFrame, with points of top-1 lost and their 95 % interval."""
        import pandas as pd

        return pd.DataFrame([row.row() for row in self.rows])


def sensitivity(
    graph: Graph,
    recipe: Recipe,
    workspace,
    *,
    images: np.ndarray | ImageSet,
    labels=None,
    calibration: np.ndarray | None = None,
    progress: Progress | None = None,
    each: Callable[[PlaceLoss], None] = lambda row: None,
) -> Sensitivity:
    """Quantize each place alone, and compare logits and accuracy with the float32 model's.

    Every result is stored when it is known: an interrupted run continues where it stopped, and a second run
    computes nothing. Q/DQ pairs run as written, between float32 operators: only the rounding of that place counts.

    Args:
        graph: a float32 graph.
        recipe: int8, fp8, mxfp8, nvfp4, w8, w4 or wfp4; its scope decides which places are tried.
        workspace: a ``Workspace`` or a folder's path.
        images: (N, H, W, 3) float32, normalised, that both models classify; or an image set, whose labels are taken
            and whose data set calibrates a recipe that names none.
        labels: N whole numbers; without them only the logits are compared.
        calibration: images that replace the recipe's own calibration set.
        progress: see ``progress.Progress``; stage ``sensitivity``, counted in places.
        each: called with every row as soon as it is known, for a map that fills.

    Raises:
        WorkbenchError: the recipe has no places, images and labels do not fit, or the labels count the classes in
            another order than the model.
    """
    evaluation = Evaluation.of(graph, recipe, workspace, images, labels, calibration, progress or silent)
    evaluation.check_order()
    places = evaluation.places()
    rows = []
    for index, place in enumerate(places):
        evaluation.progress("sensitivity", index, len(places))
        rows.append(evaluation.loss(place, (place,)))
        each(rows[-1])
    evaluation.progress("sensitivity", len(places), len(places))
    return Sensitivity(tuple(rows), evaluation.top1(), len(evaluation.images), evaluation.recipe)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A float32 model, ranges, images and labels, on which any set of places can be quantized and compared."""

    graph: Graph
    model: ir.Model
    recipe: Recipe
    workspace: Workspace
    ranges: Ranges | None
    images: np.ndarray
    labels: np.ndarray | None
    key: str
    progress: Progress

    @classmethod
    def of(
        cls,
        graph: Graph,
        recipe: Recipe,
        workspace: Workspace | str | Path,
        images: np.ndarray | ImageSet,
        labels,
        calibration: np.ndarray | None,
        progress: Progress,
    ) -> Evaluation:
        """Check the arguments of ``sensitivity`` and gather the ranges."""
        check_graph(graph)
        refuse_unless(
            recipe.precision in LOW,
            f"{recipe.precision} has no places to try one by one",
            why="sensitivity is about places in a low precision beside others in a high one",
            remedy=f"give a recipe with one of the precisions {', '.join(LOW)}",
        )
        workspace, origin = Workspace.of(workspace), images.source if isinstance(images, ImageSet) else ""
        recipe = with_images(graph, recipe, workspace, calibration, origin)
        images, labels = arrays_of(images, labels)
        images = graph_input(graph, images)
        labels = None if labels is None else checked_labels(labels, len(images))
        source = images_of(graph, recipe.calibration, workspace) if recipe.is_calibrated else recipe.calibration
        if recipe.smooth is not None:
            graph = smoothed(graph, recipe.smooth, source, workspace, progress)
        scope, ranges = scope_of(recipe), None
        if recipe.needs_ranges:
            ranges = calibrate(graph, source, workspace, scope=scope, progress=progress)
        how = (recipe.precision, scope, recipe.resolved_layout, recipe.calibration.method, largest_weight())
        key = digest(graph.digest, ranges.digest if ranges else "", how, images, [] if labels is None else labels)
        model = prepare(graph, least_opset(graph, recipe))
        check_excluded(model, recipe)
        return cls(graph, model, recipe, workspace, ranges, images, labels, key, progress)

    def places(self) -> tuple[str, ...]:
        """The places of the recipe's scope, in the order of the graph."""
        found = qdq_sites(self.model, scope_of(self.recipe))
        return tuple(dict.fromkeys(site.place for site in found))

    def loss(self, name: str, places: tuple[str, ...]) -> PlaceLoss:
        """The loss when these places alone are quantized; found in the workspace where it was tried before."""

        def make(folder: Path, key: str) -> PlaceLoss:
            chosen = set(places)
            quantized = self._logits(lambda node: place_name(node) in chosen)
            return _compare(name, quantized, self.reference(), self.labels)

        inputs = (self.key, name, places)
        return self.workspace.artefact("sensitivity", PlaceLoss, inputs, make, tools=TOOLS)

    def variant_loss(self, graph: Graph, recipe: Recipe, name: str) -> PlaceLoss:
        """The loss of the file that a recipe makes of a graph, computed in its own types, see ``emulation``.

        Raises:
            WorkbenchError: its logits are not finite: something overflows in its high precision.
        """

        def make(folder: Path, key: str) -> PlaceLoss:
            model = load_widened(apply_recipe(graph, recipe, self.workspace, progress=self.progress).path)
            found = logits_of(self.graph, model, self.images, self.progress, BATCH)
            return _compare(name, found, self.reference(), self.labels)

        inputs = (self.key, graph.digest, recipe, name)
        return self.workspace.artefact("sensitivity", PlaceLoss, inputs, make, tools=TOOLS)

    def reference(self) -> np.ndarray:
        """The float32 model's logits, computed once in each workspace."""

        def make(folder: Path, key: str) -> Logits:
            path = folder / "logits.npy"
            np.save(path, self._logits(None))
            return Logits(path)

        inputs = (self.graph.digest, self.key)
        stored = self.workspace.artefact("logits", Logits, inputs, make, tools=TOOLS)
        return np.load(stored.path, allow_pickle=False)

    def check_order(self) -> None:
        """Refuse labels that count the classes in another order than the model, before anything is compared."""
        if self.labels is not None:
            reference = self.reference()
            check_label_range(self.labels, reference.shape[1])
            check_order("the labels", self.labels, reference.argmax(axis=1), reference.shape[1])

    def top1(self) -> float:
        """The float32 model's top-1, 0...1."""
        if self.labels is None:
            return float("nan")
        return float((self.reference().argmax(axis=1) == self.labels).mean())

    def _logits(self, chosen: Callable[[ir.Node], bool] | None) -> np.ndarray:
        model = self.model.clone()
        if chosen is not None:
            quantize_alone(model, self.recipe, self.ranges, chosen)
        return logits_of(self.graph, model, self.images, self.progress, BATCH)


@dataclass(frozen=True)
class Logits:
    """A file of logits, (N, classes) float32."""

    path: Path


def _compare(name: str, quantized: np.ndarray, reference: np.ndarray, labels: np.ndarray | None) -> PlaceLoss:
    error = np.linalg.norm(quantized - reference) / np.linalg.norm(reference)
    ours, theirs = quantized.argmax(axis=1), reference.argmax(axis=1)
    only_float = only_quantized = 0
    if labels is not None:
        only_float, only_quantized = discordant_pairs(theirs == labels, ours == labels)
    return PlaceLoss(name, float(error), int((ours != theirs).sum()), only_float, only_quantized, len(ours))
