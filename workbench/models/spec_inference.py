"""The ``ModelSpec`` of a checkpoint, inferred from the shapes of its arrays."""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import re
from pathlib import Path

import numpy as np

from ..errors import WorkbenchError, refuse_unless, shown
from ..records import ModelSpec
from .sizes import PUBLISHED, model_spec
from .tree import ATTENTION, MLP

POSITIONS = "Transformer/posembed_input/pos_embedding"


def infer_spec(arrays: dict[str, np.ndarray], path: Path) -> ModelSpec:
    """The shape that most arrays agree on: a single wrong array is then named by ``check_parameters``.

    Args:
        arrays: the parameters under their Linen names, ``Transformer/encoderblock_0/...``.
        path: their file, for its name.

    Raises:
        WorkbenchError: the arrays do not show a size, or contradict each other about it.
    """
    block = r"Transformer/encoderblock_\d+"
    vote = functools.partial(_vote, arrays, path)
    blocks = _blocks(arrays, path)
    patch = vote("patch", ("embedding/kernel", 0), ("embedding/kernel", 1))
    classifier, grid = _tokens(arrays, path)
    spec = ModelSpec(
        name=path.stem,
        image_size=grid * patch,
        patch=patch,
        width=vote("width", ("embedding/bias", 0), ("embedding/kernel", 3), (rf"{block}/LayerNorm_\d/\w+", 0)),
        depth=blocks,
        heads=vote(
            "number of heads",
            (rf"{block}/{ATTENTION}/query/kernel", 1),
            (rf"{block}/{ATTENTION}/(query|key|value)/bias", 0),
            (rf"{block}/{ATTENTION}/out/kernel", 0),
        ),
        mlp=vote(
            "width of the MLP",
            (rf"{block}/{MLP}/Dense_0/kernel", 1),
            (rf"{block}/{MLP}/Dense_0/bias", 0),
            (rf"{block}/{MLP}/Dense_1/kernel", 0),
        ),
        classes=vote("number of classes", ("head/bias", 0), ("head/kernel", 1)),
        classifier=classifier,
        representation=vote(
            "width of pre_logits", ("pre_logits/kernel", 1), ("pre_logits/bias", 0), ("head/kernel", 0)
        )
        if any(key.startswith("pre_logits/") for key in arrays)
        else None,
    )
    return _named(spec)


def _blocks(arrays: dict[str, np.ndarray], path: Path) -> int:
    """How many blocks there are; they are numbered from 0 without a gap."""
    found = {m[1] for key in arrays if (m := re.match(r"Transformer/encoderblock_(\d+)/", key))}
    missing = next((i for i in range(len(found)) if str(i) not in found), None)
    refuse_unless(
        missing is None,
        f"The checkpoint {path.name} lacks a block: Transformer/encoderblock_{missing}",
        why=f"expected blocks 0 to {len(found) - 1}, found block {shown(max(found, default=''))} in its place",
        remedy="save the whole parameter tree of a vit_jax model",
    )
    return max(len(found), 1)


def _vote(arrays: dict[str, np.ndarray], path: Path, what: str, *places: tuple[str, int]) -> int:
    """The size that most of the arrays at these places have along these axes."""
    shapes = {key: array.shape for key, array in arrays.items()}
    votes = [
        (shape[axis], f"{key} of shape {shape}")
        for pattern, axis in places
        for key, shape in shapes.items()
        if re.fullmatch(pattern, key) and len(shape) > axis
    ]
    first = places[0][0].replace(r"_\d+/", "_0/")
    refuse_unless(
        bool(votes),
        f"The checkpoint {path.name} does not show its {what}: {first}",
        why=f"expected a whole array, found {shapes.get(first, 'nothing of this name')}",
        remedy="save the whole parameter tree of a vit_jax model",
    )
    ranking = collections.Counter(size for size, _ in votes).most_common(2)
    refuse_unless(
        len(ranking) == 1 or ranking[0][1] > ranking[1][1],
        f"The checkpoint {path.name} contradicts itself about its {what}",
        why=f"expected arrays that agree, found {' and '.join(dict.fromkeys(text for _, text in votes))}",
        remedy="save the whole parameter tree of one vit_jax model",
    )
    return ranking[0][0]


def _tokens(arrays: dict[str, np.ndarray], path: Path) -> tuple[str, int]:
    """Classifier and patches along an edge, from the rows of the position embeddings.

    The answer is unique: no two squares but 0 and 1 differ by one.
    """
    shape = arrays[POSITIONS].shape if POSITIONS in arrays else ()
    refuse_unless(
        len(shape) == 3,
        f"The checkpoint {path.name} does not show its number of tokens: {POSITIONS}",
        why=f"expected shape (1, tokens, width), found {shape or 'nothing of this name'}",
        remedy="save the whole parameter tree of a vit_jax model",
    )
    for classifier, others in (("gap", 0), ("token", 1)):
        grid = math.isqrt(max(shape[1] - others, 0))
        if grid and grid * grid == shape[1] - others:
            return classifier, grid
    raise WorkbenchError(
        f"The checkpoint {path.name} has no square grid of patches: {POSITIONS}",
        why=f"expected a square number of patches, with or without a class token, found {shape[1]} rows",
        remedy="use a checkpoint that was trained on square images",
    )


def _named(spec: ModelSpec) -> ModelSpec:
    """The spec with its name in the size table; with the file's name where the table has no such size."""
    for name in PUBLISHED:
        size = model_spec(name)
        if all(getattr(size, f) == getattr(spec, f) for f in ("patch", "width", "depth", "heads", "mlp")):
            return dataclasses.replace(spec, name=size.name)
    return spec
