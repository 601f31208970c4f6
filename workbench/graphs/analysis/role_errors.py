"""How far two versions of a graph are apart at each role of each block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...errors import refuse_unless
from ...places import Place, place_of
from ...progress import Progress, silent
from ...records import Graph, Variant
from .. import model_file
from ..structure.operators import QDQ
from ..structure.values import FLOATS, tensor_name
from .relative_error import RelativeError
from .sides import both_sides, side_of


def role_errors(a: Variant | Graph, b: Variant | Graph, images: np.ndarray, progress: Progress | None = None):
    """The error of each role of each block, measured at the last tensor that it computes.

    It is the error up to that tensor, not what the role alone adds.

    Args:
        a: a variant or graph; 16-bit and 8-bit ones run as in ``diff``.
        b: what it is compared with: another version of the same graph.
        images: (N, H, W, 3) float32, normalised.
        progress: as in ``diff``.

    Returns:
        A pandas DataFrame, a row per block and role in the order of computation: ``block`` (None outside the
        blocks), ``role`` and ``error``, ‖a - b‖ / ‖b‖ over all images.

    Raises:
        WorkbenchError: the images do not fit, or the two have no named place in common.
    """
    import pandas as pd

    theirs = {name for _, name in _placed_tensors(b)}
    tensors = {place: name for place, name in _placed_tensors(a) if name in theirs}
    refuse_unless(
        bool(tensors),
        "The two graphs cannot be compared role by role",
        why="no tensor of a block has the same name in both",
        remedy="compare versions of one graph, whose blocks were found by name",
    )
    sums = {name: RelativeError() for name in tensors.values()}
    for _, left, right in both_sides(side_of(a), side_of(b), list(sums), images, progress or silent):
        for name, one in sums.items():
            one.add(left[name], right[name], name)
    rows = [(*place, one.relative) for place, one in zip(tensors, sums.values())]
    return pd.DataFrame(rows, columns=["block", "role", "error"])


def _placed_tensors(side: Variant | Graph) -> Iterator[tuple[Place, str]]:
    """Every floating-point tensor that a node of a known place makes; nodes that a recipe adds are left out."""
    for node in model_file.load(side.path).graph:
        place, made = place_of(node.name or ""), node.outputs[0]
        if place and made.dtype in FLOATS and node.op_type not in (*QDQ, "Cast"):
            yield place, tensor_name(made)
