import numpy as np
import pytest

from workbench.graphs.quantization import thresholds
from workbench.graphs.quantization.histogram import Histogram, magnitudes

METHODS = {"percentile": thresholds.percentile, "entropy": thresholds.entropy, "mse": thresholds.mse}


def folded(values):
    histogram = Histogram()
    histogram.add(values.astype(np.float32))
    amax = max(-histogram.low, histogram.high)
    return *magnitudes(histogram.counts, histogram.reach, amax), amax


@pytest.fixture(scope="module")
def normal():
    return np.random.default_rng(0).standard_normal(4_000_000)


@pytest.fixture(scope="module")
def laplace():
    return np.random.default_rng(1).laplace(size=4_000_000)


def test_mse_clips_where_theory_does(normal, laplace):
    # Banner et al., 2019, "Post training 4-bit quantization" (arXiv:1810.05723), table of optimal clipping: 3.92 σ
    # of a normal distribution, 9.89 b of a Laplace distribution.
    assert thresholds.mse(*folded(normal)) == pytest.approx(3.92, rel=0.02)
    assert thresholds.mse(*folded(laplace)) == pytest.approx(9.89, rel=0.04)


def test_percentile_is_that_of_numpy(normal):
    expected = np.percentile(np.abs(normal), 99.99)
    assert thresholds.percentile(*folded(normal)) == pytest.approx(expected, rel=2e-3)


def slow_divergence(counts, end):
    """The steps of S. Migacz's slides 36 to 40 (GTC 2017), bin by bin."""
    reference = [float(c) for c in counts[:end]]
    reference[-1] += float(sum(counts[end:]))
    levels = 128
    merged = [0.0] * end
    for level in range(levels):
        bins = range(level * end // levels, (level + 1) * end // levels)
        filled = [b for b in bins if counts[b] > 0]
        for b in filled:
            merged[b] = sum(float(counts[i]) for i in bins) / len(filled)
    p, q = np.array(reference) / sum(reference), np.array(merged) / sum(merged)
    return sum(a * np.log(a / b) for a, b in zip(p, q) if a > 0)  # only for bins where q is not 0


@pytest.mark.parametrize("end", [128, 200, 777, 1500])
def test_divergence_is_the_one_of_the_slides(laplace, end):
    counts, _, _ = folded(laplace[:200_000])
    end = int(np.flatnonzero(counts[: end + 1])[-1]) + 1
    assert thresholds._divergence(counts, end) == pytest.approx(slow_divergence(counts, end), rel=1e-4)


def test_entropy_takes_the_least_divergence_of_its_candidates(normal):
    counts, width, amax = folded(normal)
    filled = np.flatnonzero(counts) + 1
    chosen = filled[np.searchsorted(filled, round(thresholds.entropy(counts, width, amax) / width))]
    least = slow_divergence(counts, int(chosen))
    for end in np.random.default_rng(0).choice(filled[filled > 128], 40):
        assert least <= slow_divergence(counts, int(end)) * 1.25  # candidates are a hundredth apart


def test_rare_outliers_are_clipped_by_every_method(normal):
    counts, width, amax = folded(np.concatenate([normal, np.full(4, 200.0)]))
    found = {name: method(counts, width, amax) for name, method in METHODS.items()}
    assert amax == 200
    assert all(threshold < 40 for threshold in found.values()), found


@pytest.mark.parametrize("method", METHODS)
def test_constant_values_and_zeros_have_a_range(method):
    assert METHODS[method](*folded(np.full(100, 3.0))) == pytest.approx(3.0, rel=1e-3)
    assert METHODS[method](*folded(np.zeros(100))) == 0


def test_squared_error_is_that_of_rounding(normal):
    counts, width, _ = folded(normal)
    step = 3.0 / 127
    rounded = np.clip(np.rint(np.abs(normal) / step), 0, 127) * step
    expected = np.sum((np.abs(normal) - rounded) ** 2)
    assert thresholds.squared_error(counts, width, 3.0) == pytest.approx(expected, rel=0.02)
