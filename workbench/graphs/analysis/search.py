"""Accuracy-aware quantization: exclude as few places as a limit on lost accuracy allows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...datasets import ImageSet
from ...datasets.image_set import arrays_of
from ...errors import refuse_unless
from ...places import is_excluded
from ...progress import Progress, silent
from ...records import Graph, Recipe
from ...statistics.sample_size import sample_to_decide
from ...statistics.verdict import CANNOT_TELL, Verdict, holds_limit
from .selftest import check_labels
from .sensitivity import Evaluation, PlaceLoss, Sensitivity, sensitivity


@dataclass(frozen=True)
class Search:
    """The recipe that excludes the fewest places, and whether the images are enough to say that it holds the limit.

    Attributes:
        recipe: the recipe that was given, with the excluded places added.
        verdict: ``holds`` where the whole 95 % interval of the loss lies within the limit, ``fails`` where it lies
            beyond, else ``cannot tell``.
        max_drop: the limit, percentage points of top-1.
        result: what this recipe loses.
        images_needed: about how many images would decide with 80 % power if the shares stay as they are; None
            where it is decided, or where the loss is exactly the limit.
        tried: for every evaluation, the number of excluded places and what was lost.
        sensitivity: what each place would have cost alone.
    """

    recipe: Recipe
    verdict: Verdict
    max_drop: float
    result: PlaceLoss
    images_needed: int | None
    tried: tuple[tuple[int, PlaceLoss], ...]
    sensitivity: Sensitivity

    def frame(self):
        """One row per place, the most sensitive first: what it costs alone, and whether it is excluded."""
        frame = self.sensitivity.frame().set_index("place").loc[list(self.sensitivity.order)].reset_index()
        return frame.assign(excluded=frame.place.isin(self.recipe.exclude))

    def __str__(self) -> str:
        low, high = self.result.points_lost_interval
        excluded = ", ".join(self.recipe.exclude) or "nothing"
        sentence = (
            f"{self.verdict}: excluding {excluded} loses {self.result.points_lost:.2f} points (95 % {low:.2f} to "
            f"{high:.2f}; {self.result.images:,} images); the limit is {self.max_drop:g}."
        )
        if self.images_needed:
            sentence += f" About {self.images_needed:,} images would decide."
        return sentence


def search_recipe(
    graph: Graph,
    recipe: Recipe,
    workspace,
    *,
    max_drop: float,
    images: np.ndarray | ImageSet,
    labels=None,
    calibration: np.ndarray | None = None,
    progress: Progress | None = None,
) -> Search:
    """Find how many of the most sensitive places must be excluded so that top-1 falls by at most ``max_drop``.

    The places are ordered by ``sensitivity``; bisection finds the shortest prefix of that order whose loss, as
    measured, is within the limit, with at most log2(places) + 2 evaluations beside those of ``sensitivity``.
    Each computes the recipe's own file in its own types, so that an overflow in its high precision is found.

    Args:
        graph: a float32 graph.
        recipe: of a precision that ``sensitivity`` takes; its ``exclude`` stays excluded.
        workspace: a ``Workspace`` or a folder's path; evaluations are kept there as they come.
        max_drop: percentage points of top-1 that may be lost against float32.
        images: (N, H, W, 3) float32, normalised, to judge by; or an image set: its labels are taken, and its data
            set calibrates a recipe that names none.
        labels: N whole numbers.
        calibration: images that replace the recipe's own calibration set.
        progress: see ``progress.Progress``; stages ``sensitivity`` and ``search``.

    Raises:
        WorkbenchError: a limit below zero, labels that the float32 model meets by chance only, logits of a tried
            recipe that are not finite, or what ``sensitivity`` raises.
    """
    refuse_unless(
        isinstance(max_drop, int | float) and max_drop >= 0,
        "A limit on lost accuracy cannot be negative",
        why=f"max_drop is {max_drop!r}",
        remedy="give the percentage points that may be lost, such as 0.5",
    )
    progress = progress or silent
    _, labels = arrays_of(images, labels)
    refuse_unless(
        labels is not None,
        "Lost accuracy cannot be judged without labels",
        why="labels is None",
        remedy="give one label for each image; sensitivity alone works without",
    )
    evaluation = Evaluation.of(graph, recipe, workspace, images, labels, calibration, progress)
    check_labels(evaluation.reference(), np.asarray(labels))
    recipe = evaluation.recipe  # it names the images that calibrate
    ranking = sensitivity(graph, recipe, workspace, images=images, labels=labels, progress=progress)
    order = [place for place in ranking.order if not is_excluded(place, recipe.exclude)]
    tried: dict[int, PlaceLoss] = {}

    def without(count: int) -> Recipe:
        return dataclasses.replace(recipe, exclude=(*recipe.exclude, *order[:count]))

    def loss(count: int) -> PlaceLoss:
        if count not in tried:
            progress("search", len(tried), math.ceil(math.log2(len(order) + 1)) + 1)
            tried[count] = evaluation.variant_loss(graph, without(count), f"all but {count}")
        return tried[count]

    fewest = _shortest_prefix(len(order), lambda count: loss(count).points_lost <= max_drop)
    result = loss(fewest)
    lost, interval = result.points_lost, result.points_lost_interval
    verdict = holds_limit(interval, max_drop)
    needed = sample_to_decide(lost, interval, max_drop, result.images) if verdict == CANNOT_TELL else None
    return Search(without(fewest), verdict, max_drop, result, needed, tuple(sorted(tried.items())), ranking)


def _shortest_prefix(places: int, holds: Callable[[int], bool]) -> int:
    """The smallest number of excluded places that holds the limit, by bisection.

    This assumes that excluding more never hurts, and that excluding all holds.
    """
    if holds(0):
        return 0
    fails, enough = 0, places
    while enough - fails > 1:
        middle = (fails + enough) // 2
        fails, enough = (fails, middle) if holds(middle) else (middle, enough)
    return enough
