"""Curves through times whose coefficients are known."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.errors import WorkbenchError
from workbench.performance.curves import fit


def test_a_fit_finds_the_coefficients_that_made_the_times():
    tokens = np.array([10, 20, 40, 80, 160])
    curve = fit(tokens, 3e-6 * tokens + 5e-9 * tokens**2, (1, 2))
    assert curve.coefficients == pytest.approx([3e-6, 5e-9], rel=1e-9)
    assert curve.predict([100])[0, 0] == pytest.approx(3.5e-4)


def test_one_coefficient_has_the_textbooks_interval():
    # y = b x with equal relative errors: b is the mean of y/x, its variance that of the mean
    tokens, ratios = np.array([1.0, 2.0, 4.0, 8.0]), np.array([1.0, 1.1, 0.9, 1.05])
    curve = fit(tokens, tokens * ratios, (1,))
    weights = 1 / ratios**2
    slope = (weights * ratios).sum() / weights.sum()
    assert curve.coefficients[0] == pytest.approx(slope)
    scatter = np.sqrt(((1 - slope / ratios) ** 2).sum() / 3)
    assert curve.scatter == pytest.approx(scatter)
    low, high = curve.predict([1.0])[0, 1:]
    assert (high - low) / 2 == pytest.approx(3.18245 * scatter / np.sqrt(weights.sum()), rel=1e-4)  # t of 3, 97.5 %


def test_as_many_coefficients_as_times_are_refused():
    with pytest.raises(WorkbenchError, match="No curve"):
        fit([1, 2], [1, 2], (1, 2))
