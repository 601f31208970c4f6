"""The time of any ONNX file by block and role."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

from ..backends import build_engine, open_engine
from ..backends.base import Session
from ..digests import digest
from ..errors import WorkbenchError
from ..graphs.door import has_loops
from ..graphs.import_ import import_onnx
from ..graphs.parity import outputs_of
from ..graphs.quantization.recipe import apply_recipe
from ..graphs.structure.macs import macs
from ..graphs.structure.operators import name_of
from ..graphs.structure.placement import PlacedModel, read
from ..records import Batches, Graph, Preprocessing, Recipe, Variant
from .cost import checked_batch
from .layers import locate, time_session
from .parts import Split, split_layers


@dataclass(frozen=True)
class FileProfile:
    """The time of one call of an ONNX file.

    Attributes:
        split: by part.
        roles: a row per block and role, in the order of execution: ``block`` (empty outside the blocks), ``role``,
            ``ms`` and its ``share`` of the layers' sum.
        batch: images per call.
        macs: multiply-accumulates of one call; None where they are not known.
    """

    split: Split
    roles: pd.DataFrame
    batch: int
    macs: int | None


def profile_onnx(path, workspace, backend: str = "onnxruntime", batch: int = 1) -> FileProfile:
    """Time the layers of any ONNX model, and sum them up by block and role.

    ONNX Runtime runs the file as it is, quantized or not. For TensorRT the file is imported first, because the
    names of nodes are the only link from a layer to its place. In a model without blocks everything is ``rest``.

    Args:
        path: an ONNX file with one input.
        workspace: a ``Workspace`` or a folder's path.
        backend: a runtime that times its layers.
        batch: images per call, where the file leaves it open.

    Raises:
        WorkbenchError: the file is no ONNX model, has several inputs or an open image size, or is refused by the
            backend; or the backend does not time layers.
    """
    if backend != "onnxruntime":
        variant = apply_recipe(import_onnx(path, workspace), Recipe(), workspace)
    else:
        variant = _as_it_is(Path(path))
    placed = read(variant.path)
    name, feed = _feed(placed, batch)
    size = len(feed)
    if has_loops(Path(path)):
        outputs_of(Path(path), [feed])  # stopped where it does not end
    engine = build_engine(variant, backend, workspace, batches=Batches(size, size, size))
    with open_engine(engine) as session:
        places = {name_of(node): place for node, place in placed.places.items() if place}
        split, roles = _profiled(session, {name: feed}, places)
    return FileProfile(split, roles, size, _macs(placed, size))


def _profiled(session: Session, feeds: Mapping, places: Mapping) -> tuple[Split, pd.DataFrame]:
    rows, calls = time_session(session, feeds)
    rows = locate(rows, places)
    frame = pd.DataFrame(rows).assign(block=lambda f: f.block.fillna(""), ms=lambda f: 1e3 * f.seconds)
    roles = frame.groupby(["block", "role"], sort=False, as_index=False).ms.sum()
    return split_layers(rows, median(calls)), roles.assign(share=roles.ms / (roles.ms.sum() or 1))


def _macs(placed: PlacedModel, batch: int) -> int | None:
    counts = [macs(node) for node in placed.nodes]
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        return None
    return sum(known) * (1 if _fixed_batch(placed) is not None else batch)


def _fixed_batch(placed: PlacedModel) -> int | None:
    """The batch that the file fixes; None where it is open, or where no input has a known shape."""
    first = next((value.shape[0] for value in placed.model.graph.inputs if value.shape), None)
    return first if isinstance(first, int) else None


def _as_it_is(path: Path) -> Variant:
    placed = read(path)
    key = digest(path)
    graph = Graph(
        path.absolute(),
        key,
        placed.model.graph.opset_imports.get("", 0),
        Preprocessing(size=1),  # how images become the input does not change the time
        batch=_fixed_batch(placed),
    )
    return Variant(graph.path, key, graph, Recipe(), graph.opset, ("onnxruntime",))


def _feed(placed: PlacedModel, batch: int) -> tuple[str, np.ndarray]:
    """Noise for the only input, whose first length may be open."""
    inputs = placed.model.graph.inputs
    image = _image_shape(inputs[0].shape) if len(inputs) == 1 else None
    if image is None or inputs[0].name is None or inputs[0].dtype is None:
        raise WorkbenchError(
            f"{placed.path} cannot be timed",
            why=f"its inputs are {', '.join(f'{value.name} {value.shape}' for value in inputs) or 'none'}",
            remedy="give a model with one input of a known image size; only the batch may be open",
        )
    images = checked_batch(batch, "time")
    fixed = _fixed_batch(placed)
    shape, kind = (images if fixed is None else fixed, *image), inputs[0].dtype.numpy()
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, shape) if kind == np.uint8 else rng.standard_normal(shape)
    return inputs[0].name, noise.astype(kind)


def _image_shape(lengths: Iterable | None) -> list[int] | None:
    """The lengths of an input behind the batch; None where one of them is open."""
    _, *others = lengths or (None, None)
    known = [length for length in others if isinstance(length, int)]
    return known if len(known) == len(others) else None
