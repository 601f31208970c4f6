"""Drift: how far what a service sees and says has moved from what the bundle's own images looked like."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import refuse_unless
from ..records import whole

#: Images of a batch that are looked at: the means of all images would take longer than a fast engine.
SAMPLED = 4


@dataclass(frozen=True)
class Reference:
    """Inputs and outputs as they were when the bundle was made.

    Attributes:
        images: how many images it was taken from.
        channel_means: mean over images and pixels of each channel of the normalised input.
        channel_spreads: standard deviation, over images, of an image's mean of each channel.
        class_counts: how many images have each class as their top class.
        confidence: mean probability (softmax) of the top class.
    """

    images: int
    channel_means: tuple[float, ...]
    channel_spreads: tuple[float, ...]
    class_counts: tuple[int, ...]
    confidence: float

    def __post_init__(self):
        numbers = (self.images, self.confidence, *self.channel_means, *self.channel_spreads, *self.class_counts)
        refuse_unless(
            all(isinstance(value, int | float) and math.isfinite(value) for value in numbers)
            and len(self.channel_means) == len(self.channel_spreads) == 3
            and all(whole(count) is not None and count >= 0 for count in self.class_counts),
            "The reference for drift must be three means, three spreads, and whole counts of classes",
            why=f"it is {self!r}"[:400],
            remedy="ask for the bundle again",
        )

    @classmethod
    def of(cls, images: np.ndarray, logits: np.ndarray) -> Reference:
        """The statistics of images (N, H, W, 3), normalised, and of their logits (N, classes)."""
        means = image_means(images)
        classes, confidences = top_classes(logits)
        return cls(
            images=len(images),
            channel_means=tuple(map(float, means.mean(axis=0))),
            channel_spreads=tuple(map(float, means.std(axis=0))),
            class_counts=tuple(map(int, np.bincount(classes, minlength=logits.shape[1]))),
            confidence=float(confidences.mean()),
        )


def image_means(images: np.ndarray) -> np.ndarray:
    """The mean of each channel of each image, (N, 3) float64."""
    return images.mean(axis=(1, 2), dtype=np.float64)


def top_classes(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The top class of each image, (N,) int64, and its probability by softmax, (N,) float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return logits.argmax(axis=1), 1 / np.exp(shifted).sum(axis=1)


def population_stability(expected: Sequence[int], found: Sequence[int]) -> float:
    """The population stability index of two histograms: the sum of (q - p) ln(q / p) over the bins.

    Half a count is added to every bin, so that an empty bin gives a large number and not infinity. By a rule
    of the credit industry (Siddiqi, "Credit Risk Scorecards", 2006), below 0.1 little has changed, above 0.25 much.
    """
    p, q = ([(count + 0.5) / (sum(counts) + 0.5 * len(counts)) for count in counts] for counts in (expected, found))
    return sum((b - a) * math.log(b / a) for a, b in zip(p, q))


class DriftMonitor:
    """Compares the newest images that a service answered with the bundle's reference. Safe for several threads.

    Args:
        reference: the bundle's.
        window: how many images count; the oldest are forgotten.
        fewest: below this number of images nothing is said, and every shift is NaN.
    """

    def __init__(self, reference: Reference, window: int = 1000, fewest: int = 30):
        self._reference, self._fewest = reference, fewest
        self._seen: deque[tuple[np.ndarray, int, float]] = deque(maxlen=window)

    def add(self, images: np.ndarray, logits: np.ndarray) -> None:
        """Note the first ``SAMPLED`` images (n, H, W, 3) of a batch and their logits (n, classes)."""
        images, logits = images[:SAMPLED], logits[:SAMPLED]
        self._seen.extend(zip(image_means(images), *top_classes(logits)))

    def input_shift(self) -> float:
        """The largest distance of a channel's mean from the reference's, in the reference's spreads of it."""
        seen = self._newest()
        if not seen:
            return math.nan
        means, spreads = self._reference.channel_means, self._reference.channel_spreads
        found = np.mean([mean for mean, _, _ in seen], axis=0)
        return float(max(abs(f - m) / max(s, 1e-6) for f, m, s in zip(found, means, spreads)))

    def class_shift(self) -> float:
        """The population stability index of the top classes."""
        counts = np.bincount([c for _, c, _ in self._newest()], minlength=len(self._reference.class_counts))
        return population_stability(self._reference.class_counts, counts.tolist()) if counts.any() else math.nan

    def confidence_shift(self) -> float:
        """The mean probability of the top class, less the reference's."""
        seen = self._newest()
        return float(np.mean([p for _, _, p in seen])) - self._reference.confidence if seen else math.nan

    def _newest(self) -> list[tuple[np.ndarray, int, float]]:
        seen = list(self._seen)
        return seen if len(seen) >= self._fewest else []
