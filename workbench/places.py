"""Names of the places in a ViT, shared by graphs, engines and tables: ``block03/attention/qkv``.

A node's name begins with its place; whatever follows (``.../qkv/bias``) belongs to that place. The short name of a
place is its block and its role: ``block03/qkv``. Recipes exclude places by this name, and tables group by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

#: Place inside a block -> the role to which its time, bytes and error are added, in the order of computation.
PLACES = {
    "norm1": "norm1",
    "attention/qkv": "qkv",
    "attention/split": "split",  # and every reshape and transpose of q, k and v
    "attention/scores": "scores",  # q kᵀ
    "attention/scale": "scores",
    "attention/softmax": "softmax",
    "attention/context": "scores",  # the product of probabilities and v
    "attention/merge": "split",  # the heads put together again
    "attention/proj": "proj",
    "residual1": "residual",
    "norm2": "norm2",
    "mlp/fc1": "fc1",
    "mlp/gelu": "gelu",
    "mlp/activation": "activation",  # another function than GELU
    "mlp/fc2": "fc2",
    "residual2": "residual",
}
#: Places outside the blocks.
OUTSIDE = ("embedding", "norm", "pool", "pre_logits", "head")
#: The tensors that numeric comparisons look at: ``embedding/output``, ``block03/output``, ``norm/output``.
OUTPUT = "output"

_BLOCK = re.compile(r"(block(\d{1,4}))(?:/|$)")


class Place(NamedTuple):
    """The place of a node: its block, or None outside the encoder's blocks, and its role there."""

    block: str | None
    role: str

    @property
    def name(self) -> str:
        """``block03/fc2``; outside the blocks the role alone: ``head``."""
        return f"{self.block}/{self.role}" if self.block else self.role


def block_name(index: int) -> str:
    """``block03`` for 3."""
    return f"block{index:02d}"


def block_index(name: str) -> int:
    """3 for ``block03``."""
    return int(name.removeprefix("block"))


def place_of(name: str) -> Place | None:
    """The place of a node or tensor of this name, or None for a name of another form."""
    if match := _BLOCK.match(name):
        inside = name[match.end() :]
        role = next((role for place, role in PLACES.items() if f"{inside}/".startswith(f"{place}/")), "other")
        return Place(match[1], role)
    outside = name.split("/", 1)[0]
    return Place(None, outside) if outside in OUTSIDE else None


def is_excluded(name: str, exclude: Iterable[str]) -> bool:
    """Whether a recipe's ``exclude`` covers a node: by its block, its place, its name or a parent path of its name.

    ``block01``, ``block01/fc2`` and ``block01/mlp`` all exclude the node ``block01/mlp/fc2/bias``.
    """
    place = place_of(name)
    places = (place.name, place.block) if place else ()
    return any(each in places or f"{name}/".startswith(f"{each}/") for each in exclude)
