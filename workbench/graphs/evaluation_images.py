"""Images on which versions of a model are compared, with labels that mean something for that model.

Labels of another list of classes say nothing about a model: the 16 shapes of ``shapes`` are not classes 0 to 15 of
ImageNet. Such images are labelled by the float32 model itself. Its own accuracy is then 100 % by definition, and
that of every other version is the share of images on which it agrees with float32.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..datasets import ImageSet, images
from ..datasets.folders import image_files
from ..datasets.pictures import NOT_LABELLED, pictures
from ..progress import Progress, silent
from ..records import Graph, Preprocessing, wilson
from .quantization.activations import logits_of
from .quantization.emulation import load_widened
from .quantization.images import graph_input

#: What stands behind the name of images that FP32 labelled.
BY_FP32 = "labelled by FP32"
#: Images of ``shapes`` that tell whether a model was trained on them.
LOOKED_AT = 64


def shown_images(
    dataset: str, count: int, preprocessing: Preprocessing, split: str = "evaluation", progress: Progress = silent
) -> ImageSet:
    """Images for a model as its preprocessing wants them, with their own labels.

    Args:
        dataset: as for ``images``; or a folder of pictures without folders for classes, which have no labels.
        count: how many; of pictures without labels at most so many.
        preprocessing: the model's.
        split: as for ``images``.
        progress: see ``progress.Progress``; counts images.
    """
    folder = Path(dataset)
    if str(dataset) and folder.is_dir() and image_files(folder):
        return pictures(folder, replace(preprocessing, classes=()), count)
    return images(dataset, split=split, count=count, preprocessing=preprocessing, progress=progress)


def evaluation_images(
    graph: Graph, dataset: str, count: int, *, split: str = "evaluation", progress: Progress = silent
) -> ImageSet:
    """Images for a graph, with their labels where these are classes of the model, else with FP32's own answers.

    Args:
        graph: a float32 graph.
        dataset: as for ``shown_images``.
        count: how many images.
        split: as for ``images``.
        progress: see ``progress.Progress``; counts images.

    Returns:
        The images. Where FP32 labelled them, the name says so, and the classes are ``class 0``, ``class 1`` ...

    Raises:
        WorkbenchError: what ``images`` raises.
    """
    return labelled_for(graph, shown_images(dataset, count, graph.preprocessing, split, progress), progress)


def labelled_for(graph: Graph, found: ImageSet, progress: Progress = silent) -> ImageSet:
    """The same images with labels that mean something for a graph, see ``evaluation_images``."""
    classes = graph.classes or (graph.spec.classes if graph.spec else 0)
    known = found.classes != NOT_LABELLED and len(found.classes) == classes
    if known and (found.source != "shapes" or _knows(graph, found)):
        return found
    logits = logits_of(graph, load_widened(graph.path), graph_input(graph, found.x), progress)
    names = tuple(f"class {index}" for index in range(logits.shape[1]))
    labels = logits.argmax(axis=1).astype(np.int64)
    return replace(found, labels=labels, classes=names, name=f"{found.name}, {BY_FP32}")


def _knows(graph: Graph, shapes: ImageSet) -> bool:
    """Whether a model of 16 classes was trained on ``shapes``: it is right more often than chance."""
    x, labels = graph_input(graph, shapes.x[:LOOKED_AT]), shapes.labels[:LOOKED_AT]
    chosen = logits_of(graph, load_widened(graph.path), x, silent).argmax(axis=1)
    return wilson(int((chosen == labels).sum()), len(labels))[0] > 1 / len(shapes.classes)
