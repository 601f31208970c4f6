"""Which kind of operator must not be quantized: all operators of one kind are rounded at a time, nothing else."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...datasets import ImageSet
from ...errors import refuse_unless
from ...progress import Progress, silent
from ...records import Graph, Recipe, wilson
from ..quantization.qdq_sites import qdq_sites, role_of
from .sensitivity import Evaluation, PlaceLoss

#: Kind of operator -> the roles of its places, see ``places.PLACES``.
KINDS = {
    "LayerNorm": ("norm1", "norm2", "norm"),
    "softmax": ("softmax",),
    "GELU": ("gelu", "activation"),
    "residual additions": ("residual",),
    "products of attention": ("scores",),
    "linear layers": ("qkv", "proj", "fc1", "fc2"),
}


@dataclass(frozen=True)
class OperatorLosses:
    """What rounding the operators of each kind alone costs.

    Attributes:
        rows: one per kind of ``KINDS`` that the graph has; ``place`` is the kind.
        top1: the float32 model's top-1 on these images, 0...1; NaN without labels.
        recipe: precision, layout and calibration.
    """

    rows: tuple[PlaceLoss, ...]
    top1: float
    recipe: Recipe

    @property
    def to_blame(self) -> tuple[str, ...]:
        """The kinds that certainly change classes: the 95 % interval of their agreement lies below 95 %."""
        return tuple(row.place for row in self.rows if _agreement(row)[2] < 0.95)

    def frame(self) -> pd.DataFrame:
        """A row per kind: ``operators``, ``agreement``, ``agreement_low``, ``agreement_high``, ``logit_error``,
        ``points_lost`` with its interval, and ``images``. Agreement is with the float32 model's classes, 0...1.
        """
        found = []
        for row in self.rows:
            share, low, high = _agreement(row)
            agreement = {"agreement": share, "agreement_low": low, "agreement_high": high}
            lost = {
                name: value for name, value in row.row().items() if name.startswith(("points", "logit", "images"))
            }
            found.append({"operators": row.place, **agreement, **lost})
        return pd.DataFrame(found)


def _agreement(row: PlaceLoss) -> tuple[float, float, float]:
    """The share of images that keep their class, and Wilson's 95 % interval."""
    same = row.images - row.changed
    return (same / row.images, *wilson(same, row.images))


def operator_losses(
    graph: Graph,
    recipe: Recipe,
    workspace,
    *,
    images: np.ndarray | ImageSet,
    labels=None,
    calibration: np.ndarray | None = None,
    progress: Progress | None = None,
) -> OperatorLosses:
    """Round what the operators of one kind read, kind by kind, and compare with the float32 model.

    Q/DQ pairs run as written, between float32 operators, without 8-bit kernels: only rounding counts. Every result
    is stored when it is known, as by ``sensitivity``.

    Args:
        graph: a float32 graph.
        recipe: int8 or fp8; its scope is replaced by ``everything``, which is where such operators are quantized.
        workspace: a ``Workspace`` or a folder's path.
        images: as for ``sensitivity``.
        labels: as for ``sensitivity``.
        calibration: as for ``sensitivity``.
        progress: see ``progress.Progress``; stage ``operators``, counted in kinds.

    Raises:
        WorkbenchError: as for ``sensitivity``; or no operator of the graph has a known role.
    """
    recipe, progress = dataclasses.replace(recipe, scope="everything"), progress or silent
    evaluation = Evaluation.of(graph, recipe, workspace, images, labels, calibration, progress)
    evaluation.check_order()
    places: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for site in qdq_sites(evaluation.model, "everything"):
        for kind, roles in KINDS.items():
            if role_of(site.node) in roles and site.place not in places[kind]:
                places[kind].append(site.place)
    there = {kind: tuple(names) for kind, names in places.items() if names}
    refuse_unless(
        bool(there),
        "No operator of this graph is known to be LayerNorm, softmax or another of a ViT's",
        why="its nodes have no places",
        remedy="bring it in with import_onnx or export_onnx, which name the places that they recognise",
    )
    rows = []
    for number, (kind, names) in enumerate(there.items()):
        progress("operators", number, len(there))
        rows.append(evaluation.loss(kind, names))
    progress("operators", len(there), len(there))
    return OperatorLosses(tuple(rows), evaluation.top1(), evaluation.recipe)
