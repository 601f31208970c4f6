"""Ranges of activations: one pass over the images, a few at a time, into histograms of fixed size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from ...digests import digest
from ...errors import WorkbenchError, one_of
from ...progress import Progress, silent
from ...records import METHODS, SCOPES, Calibration, Graph
from ...workspace import Workspace
from . import thresholds
from .activations import batches, open_model
from .calibration_set import images_of
from .histogram import Histogram, magnitudes
from .images import Images, calibration_images
from .prepare import check_graph, prepare
from .qdq_sites import qdq_sites

HISTOGRAMS = "histograms.npz"
TOOLS = ("onnxruntime", "onnx-ir", "numpy")
#: Scope -> its parts, each stored by itself, so that ``attention`` finds what ``linear`` has gathered.
PARTS = {"linear": ("linear",), "attention": ("linear", "attention"), "everything": ("everything",)}


@dataclass(frozen=True)
class TensorRange:
    """What calibration saw of one tensor, and where each method would clip it.

    Attributes:
        tensor: its name in the graph.
        place: where it is read (or written), ``block03/fc2``.
        reader: the node that reads it, and as which input; or the node that writes it.
        low: the smallest value seen.
        high: the largest value seen.
        percentile: the magnitude at which the method of that name clips; ``entropy`` and ``mse`` alike.
        probabilities: whether it holds a softmax's output, so that its values lie in 0...1.
        gelu: whether it holds a GELU's output, most of whose values crowd just below zero.
    """

    tensor: str
    place: str
    reader: str
    low: float
    high: float
    percentile: float
    entropy: float
    mse: float
    probabilities: bool = False
    gelu: bool = False

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
    """The ranges of a graph's activations on one set of images; the histograms serve every method.

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
        """One row per tensor, as a pandas DataFrame: name, place, extremes, and the threshold of each method."""
        import pandas as pd

        return pd.DataFrame([{**vars(row), "minmax": row.minmax} for row in self.rows])

    def bins(self, tensors: Iterable[str]):
        """The histograms of some tensors as a pandas DataFrame, a row per bin, for ``figures.ranges``."""
        import pandas as pd

        edges_and_counts = {tensor: self.histogram(tensor) for tensor in tensors}
        return pd.concat(
            pd.DataFrame({"tensor": tensor, "left": edges[:-1], "right": edges[1:], "count": counts})
            for tensor, (edges, counts) in edges_and_counts.items()
        )

    def limits(self, tensors: Iterable[str]):
        """Where each method clips some tensors as a pandas DataFrame, a row per pair, for ``figures.ranges``."""
        frame = self.frame()
        chosen = frame[frame["tensor"].isin(tuple(tensors))]
        return chosen.melt(["tensor"], METHODS, "method", "limit")

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
        progress: see ``progress.Progress``; the stage is ``calibrate``, counted in images.

    Returns:
        Ranges with the thresholds of every method.

    Raises:
        WorkbenchError: the images do not fit the graph, there are fewer than asked for, or an activation is NaN or
            infinite.
    """
    check_graph(graph)
    one_of("scope", scope, SCOPES)
    workspace = Workspace.of(workspace)
    progress = progress or silent
    if isinstance(calibration, Calibration):
        calibration = images_of(graph, calibration, workspace)
    images = calibration_images(graph, calibration, progress)
    parts = [_part(graph, part, images, workspace, progress) for part in PARTS[scope]]
    return replace(
        parts[0],
        rows=tuple(row for part in parts for row in part.rows),
        paths=tuple(path for part in parts for path in part.paths),
        digest=digest([part.digest for part in parts]),
    )


def _part(graph: Graph, part: str, images: Images, workspace: Workspace, progress: Progress) -> Ranges:
    def make(folder: Path, key: str) -> Ranges:
        observed, session = _open(graph, part)
        histograms = {each.tensor: Histogram() for each in observed}
        for values in batches(graph, session, images, progress, "calibrate") if session else ():
            for name, histogram in histograms.items():
                _add(histogram, values[name], name)
        rows = tuple(_row(each, histograms[each.tensor]) for each in observed)
        path = folder / HISTOGRAMS
        np.savez_compressed(path, **_arrays(histograms))  # ty: ignore[invalid-argument-type] -- no name is allow_pickle
        return Ranges(rows, (path,), len(images), key)

    return workspace.artefact("ranges", Ranges, (graph.digest, part, images.digest), make, tools=TOOLS)


def _open(graph: Graph, part: str):
    """The tensors to observe, and a session that computes them, or None; the model itself is freed."""
    model = prepare(graph)
    observed = _observed(model, part)
    computed = [each.tensor for each in observed if each.tensor != graph.input_name]
    return observed, open_model(model, computed) if computed else None


class _Observed(NamedTuple):
    """A tensor to observe, as ``TensorRange`` describes it."""

    tensor: str
    place: str
    reader: str
    probabilities: bool
    gelu: bool


def _observed(model: ir.Model, part: str) -> list[_Observed]:
    """The tensors of a part; what another part of the same scope gathers is left to it."""
    elsewhere = {site.tensor for site in qdq_sites(model, "linear")} if part == "attention" else set()
    first: dict[str, _Observed] = {}
    for site in qdq_sites(model, part):
        if site.tensor not in elsewhere:
            reader = f"{site.node.name} {'output' if site.index is None else f'input {site.index}'}"
            observed = _Observed(site.tensor, site.place, reader, site.probabilities, site.gelu)
            first.setdefault(site.tensor, observed)
    return list(first.values())


def _add(histogram: Histogram, values: np.ndarray, name: str) -> None:
    try:
        histogram.add(values)
    except ValueError as error:
        raise WorkbenchError(
            f"The activation {name} holds {error}",
            why="a range cannot be taken of such values",
            remedy="check the checkpoint for weights that are not finite, and the preprocessing",
        ) from error


def _row(observed: _Observed, histogram: Histogram) -> TensorRange:
    amax = max(-histogram.low, histogram.high)
    folded = magnitudes(histogram.counts, histogram.reach, amax)
    return TensorRange(
        **observed._asdict(),
        low=histogram.low,
        high=histogram.high,
        percentile=thresholds.percentile(*folded, amax),
        entropy=thresholds.entropy(*folded, amax),
        mse=thresholds.mse(*folded, amax),
    )


def _arrays(histograms: Mapping[str, Histogram]) -> dict[str, np.ndarray]:
    counts = {f"{name}|counts": histogram.counts for name, histogram in histograms.items()}
    return counts | {f"{name}|reach": np.asarray(histogram.reach) for name, histogram in histograms.items()}
