"""The images that a graph is run on, as its input takes them: in memory, or read anew for each pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ...datasets import stream
from ...datasets.model_input import check_model_input, in_layout
from ...digests import digest
from ...errors import refuse_unless
from ...progress import Progress, silent
from ...records import Calibration, Graph, Preprocessing

#: What two sides must prepare alike, so that one array of images suits both; ``graph_input`` turns the layout.
FIELDS = ("size", "resize", "keep_aspect", "interpolation", "mean", "std")
#: Images that go through a model at once. Four of ViT-H/14 need 1.2 GB for the observed activations.
BATCH = 4


@dataclass(frozen=True, eq=False)
class Images:
    """Images as a graph's input takes them. Those of a data set are read anew for each pass, so any number fits.

    Attributes:
        count: how many there are.
        parts: begins a pass; the images come a few at a time, in order.
        digest: of the pixels, the same for any way of reading them.
    """

    count: int
    parts: Callable[[], Iterable[np.ndarray]]
    digest: str

    def __len__(self) -> int:
        return self.count

    @classmethod
    def of(cls, images: np.ndarray) -> Images:
        """Images that are in memory."""
        return cls(len(images), lambda: [images], _digest([images]))


def calibration_images(graph: Graph, calibration: Calibration | np.ndarray, progress: Progress) -> Images:
    """The calibration images as the graph's input takes them.

    Raises:
        WorkbenchError: they do not fit the graph, or there are fewer than asked for.
    """
    if not isinstance(calibration, Calibration):
        return Images.of(graph_input(graph, calibration))

    def parts(progress: Progress = silent) -> Iterator[np.ndarray]:
        sets = stream(
            calibration.dataset,
            split="calibration",
            count=calibration.samples,
            seed=calibration.seed,
            variant=calibration.variant,
            preprocessing=dataclasses.replace(graph.preprocessing, classes=()),  # labels do not matter here
            progress=progress,
        )
        return (each.x for each in sets)

    return Images(calibration.samples, parts, _digest(parts(progress)))


def in_batches(images: np.ndarray | Images, size: int) -> Iterator[np.ndarray]:
    """One pass over images, ``size`` at a time; the last array may have fewer."""
    return _cut(images.parts() if isinstance(images, Images) else [images], size)


def _digest(parts: Iterable[np.ndarray]) -> str:
    return digest([digest(batch) for batch in _cut(parts, BATCH)])


def _cut(parts: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Arrays of ``size`` rows each out of arrays of any length; the last may have fewer."""
    left = None
    for part in parts:
        part = part if left is None else np.concatenate([left, part])
        whole = len(part) // size * size
        yield from (part[start : start + size] for start in range(0, whole, size))
        left = part[whole:] if whole < len(part) else None
    if left is not None:
        yield left


def graph_input(graph: Graph, images: np.ndarray) -> np.ndarray:
    """Images of the type that the graph takes, channels last or as the graph has them, in the graph's own layout.

    Raises:
        WorkbenchError: another type or shape, no image at all, or values that are not finite.
    """
    preprocessing = graph.preprocessing
    name = graph.spec.name if graph.spec else graph.path.stem
    layout = preprocessing.layout
    return in_layout(check_model_input(images, preprocessing.size, layout, name, preprocessing.input), layout)


def check_same_images(side: str, found: Preprocessing, expected: Preprocessing) -> None:
    """Refuse a side of a comparison whose images are prepared in another way, and name the difference."""
    for name in FIELDS:
        ours, theirs = getattr(found, name), getattr(expected, name)
        refuse_unless(
            ours == theirs,
            f"The comparison is refused: {side} and the graph differ in preprocessing.{name}",
            why=f"{side} has {ours}, the graph was made for {theirs}",
            remedy="prepare the images with preprocessing=graph.preprocessing",
        )
