"""Which images calibrate a recipe: an array, a data set that it names, or that of the images in hand.

What calibrated is recorded. An array is kept in the workspace under the digest of its values, and the recipe of the
variant names that digest: used as it stands, such a recipe makes the same file again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...datasets import shapes
from ...datasets.model_input import check_model_input
from ...digests import digest
from ...errors import WorkbenchError
from ...files import new_file
from ...records import GIVEN, Calibration, Graph, Recipe
from ...workspace import Workspace

#: The folder of a workspace that keeps them.
FOLDER = "calibration"


def with_images(
    graph: Graph, recipe: Recipe, workspace, images: np.ndarray | None = None, origin: str = ""
) -> Recipe:
    """The recipe with the images named that calibrate it.

    Args:
        graph: what the recipe is applied to.
        recipe: returned as it is where nothing is calibrated.
        workspace: keeps images that are given, as a ``Workspace`` or a folder's path.
        images: (N, H, W, 3), as the graph takes them; they replace those that the recipe names.
        origin: the data set of the images in hand, for a recipe that names none.

    Raises:
        WorkbenchError: the images do not fit the graph.
    """
    if not recipe.is_calibrated:
        return recipe
    if images is not None:
        return replace(recipe, calibration=_keep(graph, recipe.calibration, Workspace.of(workspace), images))
    named = recipe.calibration.dataset or origin or own_data_set(graph)
    return replace(recipe, calibration=replace(recipe.calibration, dataset=named))


def own_data_set(graph: Graph) -> str:
    """The data set that a model was trained on, where its classes show that: ``shapes``, or nothing."""
    names = graph.preprocessing.classes
    classes = len(names) or graph.classes or (graph.spec.classes if graph.spec else 0)
    return "shapes" if names in ((), shapes.CLASSES) and classes == len(shapes.CLASSES) else ""


def images_of(graph: Graph, calibration: Calibration, workspace) -> Calibration | np.ndarray:
    """What a calibration's images are read from: a data set, or the array that the workspace keeps.

    Raises:
        WorkbenchError: the calibration names no images, or the workspace does not hold those that it names.
    """
    if calibration.digest:
        return _kept(calibration, Workspace.of(workspace))
    named = calibration.dataset or own_data_set(graph)
    if not named:
        raise WorkbenchError(
            "The recipe names no calibration images",
            why="neither the recipe nor the images in hand name a data set, and ranges of other images are wrong",
            remedy='name the data set of your images, Calibration(dataset="photos"), or give calibration=images '
            "(normalised, not those that you evaluate on); an image set from workbench.images names its own",
        )
    return replace(calibration, dataset=named)


def note_of(recipe: Recipe) -> str:
    """What a reader of a variant's numbers must know of its calibration."""
    calibration = recipe.calibration
    where = f"{calibration.samples} images of {calibration.dataset}"
    if calibration.digest:
        where = f"{calibration.samples} {GIVEN}, digest {calibration.digest[:8]}"
    elif calibration.variant != "plain":
        where += f", {calibration.variant}"
    return f"calibrated on {where}"


def _keep(graph: Graph, calibration: Calibration, workspace: Workspace, images: np.ndarray) -> Calibration:
    preprocessing = graph.preprocessing
    name = graph.spec.name if graph.spec else graph.path.stem
    images = check_model_input(images, preprocessing.size, preprocessing.layout, name, preprocessing.input)
    found, count = digest(np.ascontiguousarray(images)), len(images)
    path = _path(workspace, found)
    if not path.is_file():
        with new_file(path) as partial, open(partial, "wb") as file:
            np.save(file, images, allow_pickle=False)
    return Calibration(GIVEN, "plain", calibration.method, count, 0, found)


def _kept(calibration: Calibration, workspace: Workspace) -> np.ndarray:
    path = _path(workspace, calibration.digest)
    try:
        images = np.load(path, allow_pickle=False)
        reason = "" if digest(images) == calibration.digest else f"{path} was changed"
        if len(images) < calibration.samples:
            reason = f"there are {len(images)} of them"
    except (OSError, ValueError, EOFError) as error:
        reason = f"{path} cannot be read: {error}"
    if reason:
        raise WorkbenchError(
            f"The {calibration.samples} images that calibrated this recipe are not in the workspace",
            why=f"they were given as an array with the digest {calibration.digest[:8]}; {reason}",
            remedy="use the workspace that the recipe comes from, or give the same array as calibration=",
        )
    return images[: calibration.samples]


def _path(workspace: Workspace, found: str) -> Path:
    return workspace.path / FOLDER / f"{found}.npy"
