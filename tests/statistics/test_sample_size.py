import math

import numpy as np
import pytest
from scipy import stats

from workbench.statistics.sample_size import images_to_tell_apart, sample_to_decide

Z = stats.norm.ppf(0.975)


def test_the_images_to_decide_give_mcnemars_test_a_power_of_80_percent():
    needed = images_to_tell_apart(30, 20, 1000)
    rng = np.random.default_rng(7)
    samples = rng.multinomial(needed, [0.03, 0.02, 0.95], size=2000)
    rejected = np.abs(samples[:, 0] - samples[:, 1]) / np.sqrt(samples[:, 0] + samples[:, 1]) > Z
    assert 0.77 <= rejected.mean() <= 0.83
    assert images_to_tell_apart(20, 20, 1000) is None


@pytest.mark.parametrize(("estimate", "limit"), [(0.4, 0.5), (0.6, 0.5), (-0.1, 0.0)])
def test_the_sample_to_decide_a_limit_does_so_in_four_of_five_samples(estimate, limit):
    """Of a normal estimate whose standard deviation is 1 / √n, as the formula supposes."""
    interval = (estimate - Z / math.sqrt(50), estimate + Z / math.sqrt(50))
    rng = np.random.default_rng(9)
    needed = sample_to_decide(estimate, interval, limit, 50)
    means = estimate + rng.standard_normal(4000) / math.sqrt(needed)
    assert np.mean(np.abs(means - limit) > Z / math.sqrt(needed)) == pytest.approx(0.8, abs=0.03)


def test_no_sample_decides_where_the_estimate_lies_on_the_limit():
    assert sample_to_decide(0.5, (0.1, 0.9), 0.5, 1000) is None
