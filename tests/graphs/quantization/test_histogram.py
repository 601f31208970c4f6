"""A histogram over a stream is the one that NumPy makes of all of it, however the stream was cut."""

import numpy as np
import pytest

from workbench.graphs.quantization.histogram import BINS, Histogram, magnitudes


def gathered(*parts):
    histogram = Histogram()
    for part in parts:
        histogram.add(np.asarray(part, np.float32))
    return histogram


@pytest.mark.parametrize("seed", range(5))
def test_counts_and_extremes_are_numpys_in_any_cut_and_order(seed):
    rng = np.random.default_rng(seed)
    parts = [rng.standard_normal(rng.integers(1, 30_000)).astype(np.float32) for _ in range(4)]
    parts = [part * np.float32(10.0 ** rng.integers(-3, 3)) for part in parts] + [np.zeros(5, np.float32)]
    values = np.concatenate(parts)
    for order in range(3):
        histogram = gathered(*(parts[i] for i in (rng.permutation(5) if order else range(4, -1, -1))))
        expected, _ = np.histogram(values, bins=2 * BINS, range=(-histogram.reach, histogram.reach))
        np.testing.assert_array_equal(histogram.counts, expected)
        assert (histogram.low, histogram.high) == (values.min(), values.max())
        assert histogram.reach / 2 < np.abs(values).max() <= histogram.reach  # at least half of the bins lie within


def test_the_reach_itself_is_counted_in_the_last_bin():
    histogram = gathered([1.0, -1.0, 0.0])
    assert histogram.reach == 1.0
    assert (histogram.counts[0], histogram.counts[BINS], histogram.counts[-1]) == (1, 1, 1)


@pytest.mark.parametrize(("bad", "name"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_what_is_not_finite_is_refused_and_nothing_is_counted(bad, name):
    histogram = gathered([1.0])
    with pytest.raises(ValueError, match=name):
        histogram.add(np.array([0.5, bad], np.float32))
    assert histogram.counts.sum() == 1


def test_magnitudes_fold_both_sides_and_stop_at_the_largest():
    histogram = gathered([0.1, -0.1, 0.3, -0.7])
    counts, width = magnitudes(histogram.counts, histogram.reach, 0.7)
    assert counts.sum() == 4
    assert counts[int(0.1 / width)] == 2
    assert len(counts) == int(0.7 / width) + 1
    assert counts[-1] == 1
