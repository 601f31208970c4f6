"""Where the time of a model goes: of any ONNX file by block and role, of any backend over resolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..backends import build_engine, open_engine
from ..backends.base import Session
from ..digests import digest
from ..errors import refuse_unless
from ..graphs.import_ import import_onnx
from ..graphs.quantization.recipe import apply_recipe
from ..graphs.structure import anatomy
from ..graphs.structure.anatomy import Anatomy
from ..records import Batches, Graph, Preprocessing, Recipe, Variant
from .cost import checked_batch
from .parts import Split, locate, split_layers

#: Calls whose median is a time.
CALLS = 10


@dataclass(frozen=True)
class FileProfile:
    """The time of one call of an ONNX file.

    ``split`` is by part; ``roles`` has a row per block and role, in the order of execution, with ``ms`` and its
    ``share`` of the layers' sum; ``macs`` are the products of a call of ``batch`` images, None where not known.
    """

    split: Split
    roles: pd.DataFrame
    batch: int
    macs: int | None


def profile_onnx(path, workspace, backend: str = "onnxruntime", batch: int = 1) -> FileProfile:
    """Time the layers of any ONNX model, and sum them up by where they stand in the ViT.

    ONNX Runtime takes the file as it is, quantized or not; for TensorRT it is imported first, because only names
    tell where a layer stands. A model without blocks has everything under ``rest``.

    Args:
        path: an ONNX file with one input.
        workspace: a ``Workspace`` or a folder's path.
        backend: a runtime that times its layers.
        batch: images per call, where the file leaves it open.

    Raises:
        WorkbenchError: the file is no ONNX model, has several inputs or an open image size, or is refused.
    """
    if backend != "onnxruntime":
        variant = apply_recipe(import_onnx(path, workspace), Recipe(), workspace)
    else:
        variant = _as_it_is(Path(path))
    body = anatomy.read(variant.path)
    name, feed = _feed(body, batch)
    size = len(feed)
    engine = build_engine(variant, backend, workspace, batches=Batches(size, size, size))
    with open_engine(engine) as session:
        places = {anatomy.name_of(node): place for node, place in body.places.items() if place}
        split, roles = _profiled(session, {name: feed}, places)
    return FileProfile(split, roles, size, _macs(body, size))


def _profiled(session: Session, feeds: Mapping, places: Mapping) -> tuple[Split, pd.DataFrame]:
    session.time(feeds, 2)
    whole_s = float(np.median(session.device_time(feeds, CALLS) or session.time(feeds, CALLS)))
    rows = locate(session.layers(feeds), places)
    frame = pd.DataFrame(rows).assign(block=lambda f: f.block.fillna(""), ms=lambda f: 1e3 * f.seconds)
    roles = frame.groupby(["block", "role"], sort=False, as_index=False).ms.sum()
    return split_layers(rows, whole_s), roles.assign(share=roles.ms / (roles.ms.sum() or 1))


def _macs(body: Anatomy, batch: int) -> int | None:
    counts = [anatomy.macs(node) for node in body.nodes]
    is_open = not isinstance(body.model.graph.inputs[0].shape[0], int)
    return None if None in counts else sum(counts) * (batch if is_open else 1)


def _as_it_is(path: Path) -> Variant:
    model = anatomy.read(path).model
    key = digest(path)
    batch = model.graph.inputs[0].shape[0] if model.graph.inputs else None
    graph = Graph(
        path.absolute(),
        key,
        model.graph.opset_imports.get("", 0),
        Preprocessing(size=1),  # how images become the input plays no part in their time
        batch=batch if isinstance(batch, int) else None,
    )
    return Variant(graph.path, key, graph, Recipe(), graph.opset, ("onnxruntime",))


def _feed(body: Anatomy, batch: int) -> tuple[str, np.ndarray]:
    """Noise for the only input, whose first length may be open."""
    inputs = body.model.graph.inputs
    lengths = [value.shape and list(value.shape) for value in inputs]
    refuse_unless(
        len(inputs) == 1 and bool(lengths[0]) and all(isinstance(n, int) for n in lengths[0][1:]),
        f"{body.path} cannot be timed",
        why=f"its inputs are {', '.join(f'{value.name} {value.shape}' for value in inputs) or 'none'}",
        remedy="give a model with one input of a known image size; only the batch may be open",
    )
    images = checked_batch(batch, "time")
    first, *others = lengths[0]
    shape = (first if isinstance(first, int) else images, *others)
    noise = np.random.default_rng(0).standard_normal(shape)
    return inputs[0].name, noise.astype(inputs[0].dtype.numpy())
