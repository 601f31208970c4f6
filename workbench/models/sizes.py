"""The published sizes of ViTs and the tutorial's own, by name. This module needs no JAX."""

from __future__ import annotations

import dataclasses

from ..errors import one_of
from ..records import ModelSpec

#: Letter -> width, mlp, heads, depth: table 1 of arXiv:2010.11929, and of DeiT, arXiv:2012.12877, for Ti and S.
LETTERS = {
    "Ti": (192, 768, 3, 12),
    "S": (384, 1536, 6, 12),
    "B": (768, 3072, 12, 12),
    "L": (1024, 4096, 16, 24),
    "H": (1280, 5120, 16, 32),
}
PUBLISHED = ("Ti/16", "S/16", "S/32", "B/32", "B/16", "B/8", "L/32", "L/16", "H/14")
#: The model that is shipped with the workbench: small, but with the head size of its published relatives.
TUTORIAL = ModelSpec("tutorial", image_size=96, patch=8, width=192, depth=6, heads=3, mlp=768, classes=16)
#: The model that ``workbench.models.training`` makes for CIFAR-10: 3.7 million parameters, 64 tokens, of which the
#: mean is classified.
CIFAR10 = ModelSpec(
    "cifar10", image_size=32, patch=4, width=256, depth=7, heads=4, mlp=512, classes=10, classifier="gap"
)
SIZES = (*PUBLISHED, "tutorial")


def model_spec(
    name: str,
    image_size: int | None = None,
    classes: int | None = None,
    *,
    classifier: str = "token",
    representation: int | None = None,
) -> ModelSpec:
    """The shape of a model in the size table.

    Args:
        name: ``B/32``, ``ViT-B/32`` or any other name in ``SIZES``.
        image_size: pixels along an edge; 224 when left out, 96 for ``tutorial``.
        classes: number of logits; 1000 when left out, 16 for ``tutorial``.
        classifier: ``token`` or ``gap``.
        representation: width of the tanh layer before the head, or None.

    Raises:
        WorkbenchError: the table has no such name, or the patch does not divide the image.
    """
    short = str(name).removeprefix("ViT-").replace("_", "/")
    one_of("model size", short, SIZES)
    if short == "tutorial":
        base = TUTORIAL
    else:
        letter, patch = short.split("/")
        width, mlp, heads, depth = LETTERS[letter]
        base = ModelSpec(f"ViT-{short}", 224, int(patch), width, depth, heads, mlp, 1000)
    return dataclasses.replace(
        base,
        image_size=base.image_size if image_size is None else image_size,
        classes=base.classes if classes is None else classes,
        classifier=classifier,
        representation=representation,
    )
