"""The number of tokens, and the image size, from which on attention costs more than the MLP."""

from __future__ import annotations

from typing import NamedTuple

from ..records import ModelSpec


class Crossover(NamedTuple):
    """Where one cost becomes larger than another; ``image_size``, in pixels, is not rounded to the patch."""

    tokens: float
    image_size: float


def attention_overtakes_mlp(spec: ModelSpec) -> Crossover:
    """The number of tokens above which attention takes more multiply-accumulates than the MLP.

    With S tokens, width D and width M of the MLP, 4·S·D² + 2·S²·D > 2·S·D·M, divided by 2·S·D, is S > M − 2D: with
    the usual M = 4D this is twice the width. It is zero where the MLP is so narrow that attention takes more from
    the first token on.
    """
    return crossover_at(spec, max(0, spec.mlp - 2 * spec.width))


def crossover_at(spec: ModelSpec, tokens: float) -> Crossover:
    """The crossover at so many tokens: an image of G·P pixels has G² of them, and one for the class."""
    patches = max(0.0, tokens - (spec.classifier == "token"))
    return Crossover(tokens, spec.patch * patches**0.5)


def tokens_at(spec: ModelSpec, image_size: int) -> int:
    """The number of tokens at another image size."""
    return (image_size // spec.patch) ** 2 + (spec.classifier == "token")
