"""Images in, activations out: a few images at a time, with only the wanted tensors alive."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ...backends.onnxruntime import inference_session
from ...datasets import stream
from ...datasets.model_input import check_model_input, in_layout
from ...digests import digest
from ...errors import refuse_unless
from ...progress import Progress, silent
from ...records import Calibration, Graph, Preprocessing
from .. import model_file

#: What two sides must prepare alike, so that one array of images suits both; ``graph_input`` turns the layout.
FIELDS = ("size", "resize", "keep_aspect", "interpolation", "mean", "std")
#: Images that go through the model at once. Four of ViT-H/14 keep 1.2 GB of observed activations alive.
BATCH = 4


@dataclass(frozen=True, eq=False)
class Images:
    """Images as a graph's input takes them, in memory or read anew for each pass, so that any number fits.

    Attributes:
        count: how many there are.
        parts: begins a pass; the images come a few at a time, in order.
        digest: of the images, however they come.
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
    """The calibration images as the graph's input takes them; images of a data set are not held in memory.

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


def _digest(parts: Iterable[np.ndarray]) -> str:
    return digest([digest(batch) for batch in _cut(parts, BATCH)])


def _cut(parts: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Arrays of ``size`` rows each out of arrays of any length; the last may have fewer."""
    rest = None
    for part in parts:
        part = part if rest is None else np.concatenate([rest, part])
        whole = len(part) // size * size
        yield from (part[start : start + size] for start in range(0, whole, size))
        rest = part[whole:] if whole < len(part) else None
    if rest is not None:
        yield rest


def check_graph(graph) -> None:
    """Refuse anything but a ``Graph``."""
    refuse_unless(
        isinstance(graph, Graph),
        "A recipe is about a Graph",
        why=f"given was {type(graph).__name__}",
        remedy="give what export_onnx or import_onnx returned; of a variant its .graph",
    )


def graph_input(graph: Graph, images: np.ndarray) -> np.ndarray:
    """Normalised float32 images, channels last or as the graph has them, in the graph's own layout.

    Raises:
        WorkbenchError: another type or shape, no image at all, or values that are not finite.
    """
    preprocessing = graph.preprocessing
    name = graph.spec.name if graph.spec else graph.path.stem
    return in_layout(
        check_model_input(images, preprocessing.size, preprocessing.layout, name), preprocessing.layout
    )


def check_same_images(side: str, found: Preprocessing, expected: Preprocessing) -> None:
    """Refuse a side of a comparison whose images are prepared in another way, and name the difference."""
    for name in FIELDS:
        ours, theirs = getattr(found, name), getattr(expected, name)
        refuse_unless(
            ours == theirs,
            f"The comparison is refused: {side} and the graph part at preprocessing.{name}",
            why=f"{side} has {ours}, the graph was made for {theirs}",
            remedy="prepare the images with preprocessing=graph.preprocessing",
        )


def open_model(model: ir.Model, outputs: Sequence[str]):
    """An ONNX Runtime session that computes these tensors of a model and nothing else; the model is consumed.

    QuantizeLinear and DequantizeLinear run as they are written, not fused into 8-bit products, so that what is
    observed is the error of rounding and not that of one CPU's kernels.
    """
    computed = {value.name: value for node in model.graph for value in node.outputs}
    model.graph.outputs[:] = [computed[name] for name in outputs]
    with tempfile.TemporaryDirectory() as folder:
        path = model_file.save(model, Path(folder))
        return inference_session(path, fuse_qdq=False)


def batches(
    graph: Graph,
    session,
    images: np.ndarray | Images,
    progress: Progress,
    stage: str,
    size: int = BATCH,
    given: Mapping[str, np.ndarray] | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """A session's input and outputs, by name, a few images at a time; ``given`` holds more inputs, row by row.

    A graph of a static batch is fed whole batches, and the rows of padding are cut off again.
    """
    names, size = [output.name for output in session.get_outputs()], graph.batch or size
    done = 0
    for batch in _cut(images.parts() if isinstance(images, Images) else [images], size):
        progress(stage, done, len(images))
        rows = slice(done, done + len(batch))
        feeds = {name: value[rows] for name, value in (given or {}).items()} | {graph.input_name: batch}
        if graph.batch is not None:
            feeds = {name: _pad(value, size) for name, value in feeds.items()}
        values, padded = dict(zip(names, session.run(names, feeds))), feeds[graph.input_name]
        values[graph.input_name] = padded
        yield {name: _own_rows(value, len(batch), len(padded)) for name, value in values.items()}
        done += len(batch)
    progress(stage, done, len(images))


def _pad(batch: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])


def _own_rows(value: np.ndarray, images: int, padded: int) -> np.ndarray:
    """The rows that belong to real images; a graph may fold other axes into the batch's."""
    return value[: len(value) // padded * images]
