"""Ranges of activations, gathered as a stream: one pass over the images, a few at a time, into fixed histograms."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from ..backends.base import Progress, silent
from ..errors import WorkbenchError, one_of, refuse_unless
from ..records import METHODS, SCOPES, Calibration, Graph
from ..workspace import Workspace, digest
from . import edit, thresholds
from .histogram import Histogram, magnitudes
from .points import points
from .prepare import prepare

#: Images that go through the model at once. Four of ViT-H/14 keep 1.2 GB of observed activations alive.
BATCH = 4
HISTOGRAMS = "histograms.npz"
CODE = tuple(
    f"workbench.graphs.{name}" for name in ("calibrate", "edit", "points", "prepare", "histogram", "thresholds")
)
TOOLS = ("onnxruntime", "onnx-ir", "numpy")
#: Scope -> the parts that are gathered and stored apart, so that ``attention`` finds what ``linear`` has gathered.
PARTS = {"linear": ("linear",), "attention": ("linear", "attention"), "everything": ("everything",)}


@dataclass(frozen=True)
class TensorRange:
    """What calibration saw of one tensor, and where each method would clip it.

    Attributes:
        tensor: its name in the graph.
        site: where it is read (or written), ``block03/fc2``.
        reader: the node that reads it, and as which input; or the node that writes it.
        low: the smallest value seen.
        high: the largest value seen.
        percentile: the magnitude at which the method of that name clips; ``entropy`` and ``mse`` alike.
        unit_interval: whether it holds a softmax's probabilities.
    """

    tensor: str
    site: str
    reader: str
    low: float
    high: float
    percentile: float
    entropy: float
    mse: float
    unit_interval: bool = False

    @property
    def minmax(self) -> float:
        """The largest magnitude seen."""
        return max(-self.low, self.high)

    def threshold(self, method: str) -> float:
        """The magnitude at which a method clips the tensor."""
        one_of("calibration method", method, METHODS)
        return getattr(self, method)


@dataclass(frozen=True)
class Ranges:
    """The ranges of a graph's activations on one set of images, by every method.

    Attributes:
        rows: one for each tensor, in the order of the graph.
        paths: files of histograms.
        images: how many were seen.
        digest: of graph, images and code.
    """

    rows: tuple[TensorRange, ...]
    paths: tuple[Path, ...]
    images: int
    digest: str

    def frame(self):
        """One row per tensor, as a pandas DataFrame: name, site, extremes, and the threshold of each method."""
        import pandas as pd

        return pd.DataFrame([{**vars(row), "minmax": row.minmax} for row in self.rows])

    @cached_property
    def by_tensor(self) -> Mapping[str, TensorRange]:
        """Tensor name -> its row."""
        return {row.tensor: row for row in self.rows}

    def histogram(self, tensor: str) -> tuple[np.ndarray, np.ndarray]:
        """The edges of the bins, and how many values fell into each, over all images."""
        one_of("calibrated tensor", tensor, tuple(self.by_tensor))
        for path in self.paths:
            with np.load(path, allow_pickle=False) as stored:
                if f"{tensor}|counts" in stored:
                    counts, reach = stored[f"{tensor}|counts"], float(stored[f"{tensor}|reach"])
                    return np.linspace(-reach, reach, len(counts) + 1), counts
        raise AssertionError(f"{tensor} has a row and no histogram")


def calibrate(
    graph: Graph,
    calibration: Calibration | np.ndarray,
    workspace,
    *,
    scope: str = "linear",
    progress: Progress | None = None,
) -> Ranges:
    """Find, or gather, the ranges of the activations that a scope quantizes.

    Args:
        graph: a float32 graph.
        calibration: which images, or the images themselves, (N, H, W, 3) float32, normalised.
        workspace: a ``Workspace`` or a folder's path.
        scope: ``linear``, ``attention`` or ``everything``.
        progress: see ``backends.base.Progress``; the stage is ``calibrate``, counted in images.

    Returns:
        Ranges by all methods: the histograms do not depend on the method.

    Raises:
        WorkbenchError: the images do not fit the graph, there are fewer than asked for, or an activation is NaN or
            infinite.
    """
    one_of("scope", scope, SCOPES)
    workspace = Workspace.of(workspace)
    images = calibration_images(graph, calibration)
    parts = [_part(graph, part, images, workspace, progress or silent) for part in PARTS[scope]]
    return replace(
        parts[0],
        rows=tuple(row for part in parts for row in part.rows),
        paths=tuple(path for part in parts for path in part.paths),
        digest=digest([part.digest for part in parts]),
    )


def calibration_images(graph: Graph, calibration: Calibration | np.ndarray) -> np.ndarray:
    """The calibration images as the graph's input takes them.

    Raises:
        WorkbenchError: they do not fit the graph, or there are fewer than asked for.
    """
    if not isinstance(calibration, Calibration):
        return graph_input(graph, calibration)
    from ..datasets import images

    wanted = calibration
    found = images(
        wanted.dataset,
        split="calibration",
        count=wanted.samples,
        seed=wanted.seed,
        size=graph.preprocessing.size,
        variant=wanted.variant,
    )
    refuse_unless(
        len(found) >= wanted.samples,
        f"Calibration asks for {wanted.samples} images of {wanted.dataset}",
        why=f"its calibration split has {len(found)}",
        remedy=f"set samples={len(found)}, or calibrate with a larger set",
    )
    from ..datasets import normalise

    return graph_input(graph, normalise(found.pixels, graph.preprocessing))


def graph_input(graph: Graph, images: np.ndarray) -> np.ndarray:
    """Normalised float32 images, channels last or as the graph has them, in the graph's own layout.

    Raises:
        WorkbenchError: another type or shape, no image at all, or values that are not finite.
    """
    shape = graph.image_shape
    last = shape if graph.preprocessing.layout == "NHWC" else (*shape[1:], shape[0])
    found = f"they are {type(images).__name__} of shape {np.shape(images)}, {getattr(images, 'dtype', 'no dtype')}"
    refuse_unless(
        isinstance(images, np.ndarray) and images.ndim == 4 and images.shape[1:] in (shape, last),
        f"The images must be an array (N, {', '.join(map(str, last))})",
        why=found,
        remedy="resize them to what the graph's preprocessing says",
    )
    refuse_unless(
        images.dtype == np.float32,
        "The images must be float32, already normalised",
        why=found,
        remedy="call workbench.normalise on uint8 pixels",
    )
    refuse_unless(len(images) > 0, "There are no images", why=found, remedy="give one or more")
    refuse_unless(
        bool(np.isfinite(images).all()),
        "The images hold NaN or infinity",
        why=f"{int((~np.isfinite(images).all(axis=(1, 2, 3))).sum())} of {len(images)} do",
        remedy="drop them, or repair the preprocessing that made them",
    )
    return images if images.shape[1:] == shape else np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _part(graph: Graph, part: str, images: np.ndarray, workspace: Workspace, progress: Progress) -> Ranges:
    def make(folder: Path, key: str) -> Ranges:
        model = prepare(graph)
        observed = _observed(model, part)
        histograms = {tensor.name: Histogram() for tensor in observed}
        for batch, outputs in _activations(graph, model, list(histograms), images, progress):
            for name, histogram in histograms.items():
                _add(histogram, outputs[name], name, batch)
        rows = tuple(_row(tensor, histograms[tensor.name]) for tensor in observed)
        path = folder / HISTOGRAMS
        np.savez_compressed(path, **_arrays(histograms))
        return Ranges(rows, (path,), len(images), key)

    return workspace.artefact("ranges", Ranges, (graph.digest, part, images), make, code=CODE, tools=TOOLS)


class _Observed(NamedTuple):
    name: str
    site: str
    reader: str
    unit_interval: bool


def _observed(model: ir.Model, part: str) -> list[_Observed]:
    """The tensors of a part; what another part of the same scope gathers is left to it."""
    elsewhere = {p.value.name for p in points(model, "linear")} if part == "attention" else set()
    first: dict[str, _Observed] = {}
    for point in points(model, part):
        name = point.value.name
        if name not in elsewhere:
            reader = f"{point.node.name} {'output' if point.index is None else f'input {point.index}'}"
            first.setdefault(name, _Observed(name, point.site, reader, point.probabilities))
    return list(first.values())


def _activations(
    graph: Graph, model: ir.Model, names: list[str], images: np.ndarray, progress: Progress
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The tensors of these names, a few images at a time, with the index of the first image."""
    import onnxruntime

    values = {value.name: value for node in model.graph for value in node.outputs}
    values |= {value.name: value for value in model.graph.inputs}
    wanted = [name for name in names if name not in {value.name for value in model.graph.inputs}]
    model.graph.outputs[:] = [values[name] for name in wanted]
    with tempfile.TemporaryDirectory() as folder:
        session = onnxruntime.InferenceSession(edit.save(model, Path(folder)), providers=["CPUExecutionProvider"])
    size = graph.batch or BATCH
    for start in range(0, len(images), size):
        progress("calibrate", start, len(images))
        batch = images[start : start + size]
        padded = batch if graph.batch is None else _pad(batch, size)
        outputs = dict(zip(wanted, session.run(wanted, {graph.input_name: padded})))
        outputs[graph.input_name] = padded
        yield start, {name: _own_rows(value, len(batch), len(padded)) for name, value in outputs.items()}
    progress("calibrate", len(images), len(images))


def _pad(batch: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])


def _own_rows(value: np.ndarray, images: int, padded: int) -> np.ndarray:
    """The rows that belong to real images; a graph may fold other axes into the batch's."""
    return value[: len(value) // padded * images]


def _add(histogram: Histogram, value: np.ndarray, name: str, batch: int) -> None:
    try:
        histogram.add(value)
    except ValueError as error:
        raise WorkbenchError(
            f"The activation {name} holds {error}",
            why=f"it appeared among the images from number {batch} on",
            remedy="check the checkpoint and the preprocessing; a range cannot be taken of such values",
        ) from error


def _row(tensor: _Observed, histogram: Histogram) -> TensorRange:
    low, high = histogram.low, histogram.high
    amax = max(-low, high)
    folded = magnitudes(histogram.counts, histogram.reach, amax)
    clipped = {name: thresholds.METHODS[name](*folded, amax) for name in ("percentile", "entropy", "mse")}
    return TensorRange(
        tensor.name, tensor.site, tensor.reader, low, high, **clipped, unit_interval=tensor.unit_interval
    )


def _arrays(histograms: Mapping[str, Histogram]) -> dict[str, np.ndarray]:
    arrays = {}
    for name, histogram in histograms.items():
        arrays[f"{name}|counts"] = histogram.counts
        arrays[f"{name}|reach"] = np.float64(histogram.reach)
    return arrays
