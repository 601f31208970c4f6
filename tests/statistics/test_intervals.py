import math

import numpy as np
import pytest
from scipy import optimize, stats

from workbench.records import Window
from workbench.statistics.intervals import (
    latency_range,
    paired_interval,
    signed_rank_interval,
    stretch_medians,
    throughput_range,
)

Z = stats.norm.ppf(0.975)


@pytest.mark.parametrize(
    ("only_a", "only_b"), [(12, 2), (2, 12), (30, 14), (9, 3), (5, 0), (6, 1), (51, 49), (3, 0)]
)
def test_the_interval_leaves_out_zero_where_mcnemar_rejects(only_a, only_b):
    low, high = paired_interval(only_a, only_b, 500)
    rejected = abs(only_a - only_b) / math.sqrt(only_a + only_b) > Z  # McNemar, 1947, without correction
    assert (low > 0 or high < 0) == rejected
    assert low < (only_a - only_b) / 500 < high


@pytest.mark.parametrize("images", [10, 100, 5000])
def test_no_disagreement_gives_wilsons_bound_both_ways(images):
    bound = Z**2 / (
        images + Z**2
    )  # with no discordant pair Tango's equation is that of Wilson's interval for 0 of n
    assert paired_interval(0, 0, images) == pytest.approx((-bound, bound), abs=1e-9)


@pytest.mark.parametrize(("only_a", "only_b", "images"), [(12, 5, 80), (40, 20, 160), (1, 9, 300)])
def test_the_interval_is_where_the_restricted_likelihood_says(only_a, only_b, images):
    """The same by another way: scipy maximizes the likelihood under each supposed difference."""

    def score(difference):
        def log_likelihood(share):  # of images that only the second gets right
            both = only_a * math.log(share + difference) + only_b * math.log(share)
            return -(both + (images - only_a - only_b) * math.log(1 - 2 * share - difference))

        low, high = max(0.0, -difference) + 1e-12, (1 - difference) / 2 - 1e-12
        share = optimize.minimize_scalar(log_likelihood, bounds=(low, high), options={"xatol": 1e-12}).x
        variance = images * (2 * share + difference - difference**2)
        return (only_a - only_b - images * difference) / math.sqrt(variance)

    low, high = paired_interval(only_a, only_b, images)
    assert score(low) == pytest.approx(Z, abs=1e-3)
    assert score(high) == pytest.approx(-Z, abs=1e-3)


def test_the_interval_holds_the_truth_in_95_of_100_samples():
    rng = np.random.default_rng(6)
    only_a, only_b, images = 0.03, 0.02, 1500
    samples = rng.multinomial(images, [only_a, only_b, 1 - only_a - only_b], size=1000)
    held = [low <= only_a - only_b <= high for low, high in (paired_interval(*s[:2], images) for s in samples)]
    assert 0.93 <= np.mean(held) <= 0.97


@pytest.mark.parametrize("images", [1, 7, 300])
def test_the_interval_of_a_model_that_is_correct_alone_ends_at_the_whole_and_mirrors_the_other(images):
    low, high = paired_interval(images, 0, images)
    assert low < high == 1
    assert paired_interval(0, images, images) == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.parametrize("count", [6, 25, 100])
@pytest.mark.parametrize("draw", ["standard_normal", "standard_cauchy", "laplace"])
def test_the_interval_of_signed_ranks_holds_the_truth_in_about_95_of_100_samples(count, draw):
    rng = np.random.default_rng(8)
    samples = getattr(rng, draw)(size=(2000, count))
    held = [low <= 0 <= high for _, (low, high) in map(signed_rank_interval, samples)]
    assert 0.935 <= np.mean(held) <= 0.985  # three deviations below 95 %, and 97 % where six values leave no choice


def test_the_interval_of_signed_ranks_leaves_out_zero_exactly_when_wilcoxons_test_rejects_it():
    rng = np.random.default_rng(9)
    for shift in rng.uniform(0, 0.8, 100):
        differences = shift + rng.standard_normal(40)
        middle, (low, high) = signed_rank_interval(differences)
        rejects = stats.wilcoxon(differences, method="approx", correction=True).pvalue < 0.05
        assert (low > 0 or high < 0) == rejects
        assert low < middle < high
    mirrored_middle, mirrored = signed_rank_interval(-differences)
    assert (mirrored_middle, *mirrored) == pytest.approx((-middle, -high, -low), abs=1e-12)


def test_stretches_hold_all_calls_in_their_order():
    calls = np.arange(100.0)
    assert stretch_medians(calls, 4).tolist() == [12, 37, 62, 87]
    assert stretch_medians(calls[:3]).tolist() == [0, 1, 2]
    assert latency_range(calls) == pytest.approx((1.5 + 0.6 * 4, 97.5 - 0.6 * 4))


def test_the_range_of_a_throughput_holds_the_middle_of_its_stretches_and_the_whole():
    even = Window(tuple(range(100)), (1.0,) * 100)
    assert throughput_range(even) == pytest.approx((99 * 0.025, 99 * 0.975))
    stalled = Window(
        (100,) * 49 + (1,), (1.0,) * 49 + (1000.0,)
    )  # one stretch in which the machine did other things
    low, high = throughput_range(stalled)
    assert low == stalled.calls_per_second < 5 < high == 100
