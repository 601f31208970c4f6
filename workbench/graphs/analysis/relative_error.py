"""The relative error of a tensor, summed over batches of images."""

from __future__ import annotations

import math

import numpy as np

from ...errors import refuse_unless


class RelativeError:
    """How far one tensor is from its reference, over all batches that were added.

    Attributes:
        error: the sum of squared differences.
        reference: the sum of squares of the reference.
        max_abs: the largest absolute difference.
    """

    def __init__(self):
        self.error = self.reference = self.max_abs = 0.0

    def add(self, left: np.ndarray, right: np.ndarray, name: str) -> None:
        """Add a batch of the tensor ``left`` and of its reference ``right``, which have one shape.

        Raises:
            WorkbenchError: the shapes differ.
        """
        refuse_unless(
            left.shape == right.shape,
            f"{name} cannot be compared",
            why=f"its shapes are {left.shape} and {right.shape}",
            remedy="compare versions of one model",
        )
        difference = left.astype(np.float64) - right
        self.error += float(np.sum(difference**2))
        self.reference += float(np.sum(right.astype(np.float64) ** 2))
        self.max_abs = max(self.max_abs, float(np.abs(difference).max()))

    @property
    def relative(self) -> float:
        """‖left - right‖ / ‖right‖."""
        if self.reference == 0:
            return math.inf if self.error else 0.0
        return math.sqrt(self.error / self.reference)
