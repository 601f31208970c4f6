"""Curves through measured times: least squares with powers of the number of tokens, with confidence bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ..errors import refuse_unless
from ..statistics.intervals import CONFIDENCE

_DRAWS = 4000


@dataclass(frozen=True, eq=False)
class Curve:
    """seconds(S) = Σ coefficient · S^power.

    Attributes:
        powers: of the number of tokens S.
        coefficients: seconds per token to that power.
        covariance: of the coefficients.
        scatter: standard deviation of a measurement about the curve, as a share of the curve.
        freedom: sizes minus coefficients.
    """

    powers: tuple[int, ...]
    coefficients: np.ndarray
    covariance: np.ndarray
    scatter: float
    freedom: int

    def predict(self, tokens: Sequence[float], *, new: bool = False) -> np.ndarray:
        """(n, 3) seconds: the curve, and both ends of its 95 % confidence band.

        Args:
            tokens: n sequence lengths.
            new: give the band of a single new measurement instead; it includes the scatter about the curve.
        """
        terms = _terms(tokens, self.powers)
        middle = terms @ self.coefficients
        variance = np.einsum("ni,ij,nj->n", terms, self.covariance, terms)
        variance = variance + (self.scatter * middle) ** 2 if new else variance
        half = stats.t.ppf(0.5 + CONFIDENCE / 2, self.freedom) * np.sqrt(variance)
        return np.stack([middle, middle - half, middle + half], axis=1)

    def draws(self, seed: int = 0) -> np.ndarray:
        """(4000, coefficients): random draws of the coefficients from their multivariate t distribution."""
        shape = stats.multivariate_t(
            self.coefficients, self.covariance, self.freedom, allow_singular=True, seed=seed
        )
        return shape.rvs(_DRAWS).reshape(_DRAWS, -1)


def fit(tokens: Sequence[float], seconds: Sequence[float], powers: tuple[int, ...]) -> Curve:
    """Least squares on relative errors, because the scatter of a time grows with the time.

    Coefficients and covariance are those of weighted linear regression with weights 1/seconds² (Draper and Smith,
    Applied Regression Analysis, 3rd edition, section 9.2).

    Raises:
        WorkbenchError: there are not more sizes than coefficients, so that the scatter cannot be estimated.
    """
    measured = np.asarray(seconds, float)
    freedom = len(measured) - len(powers)
    refuse_unless(
        freedom > 0 and bool((measured > 0).all()),
        "No curve can be fitted",
        why=f"there are {len(measured)} times for {len(powers)} coefficients, the least of them "
        f"{measured.min(initial=np.inf):g} s",
        remedy="measure more sizes, each above zero",
    )
    terms = _terms(tokens, powers) / measured[:, None]
    scale = np.abs(terms).max(axis=0)  # S² is millions of S: without scaling, the normal equations lose digits
    inverse = np.linalg.inv((terms / scale).T @ (terms / scale)) / np.outer(scale, scale)
    coefficients = inverse @ terms.sum(axis=0)
    scatter = float(np.sqrt(((1 - terms @ coefficients) ** 2).sum() / freedom))
    return Curve(tuple(powers), coefficients, inverse * scatter**2, scatter, freedom)


def _terms(tokens: Sequence[float], powers: tuple[int, ...]) -> np.ndarray:
    return np.asarray(tokens, float)[:, None] ** np.asarray(powers)
