"""Statistics of a measurement, against NumPy's, SciPy's and figures computed by hand."""

import math

import pytest
from scipy import stats

from workbench.errors import WorkbenchError
from workbench.records import Measurement, Recipe, Window, decode, encode, quantile, wilson


def measurement(**fields):
    given = {"batch": 8, "latencies_s": (), **fields}
    return Measurement("onnxruntime", "m", Recipe(), variant="v", **given)


def test_percentiles_are_those_of_numpy():
    # numpy.percentile([10, 20, 30, 40], [50, 90, 99]) = 25, 37, 39.7
    found = measurement(latencies_s=(0.04, 0.01, 0.03, 0.02))
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == pytest.approx((25, 37, 39.7))
    assert quantile([5], 0.9) == 5
    assert math.isnan(quantile([], 0.5))


@pytest.mark.parametrize("streams", [1, 4])
def test_both_throughputs_are_what_was_counted_whatever_the_latencies_are(streams):
    end_to_end, compute = Window((3, 7), (0.5, 1.5)), Window((40,), (2.0,))
    found = measurement(latencies_s=(0.01,) * 10, streams=streams, end_to_end=end_to_end, compute=compute)
    assert found.images_per_second == pytest.approx(8 * 10 / 2)
    assert found.compute_images_per_second == pytest.approx(8 * 40 / 2)
    assert not found.caveat


def test_a_measurement_without_counts_keeps_its_derived_figure_and_says_that_it_is_derived():
    latencies_s = (0.01, 0.02, 0.06)
    for streams, expected in ((1, 8 / 0.02), (4, 4 * 8 / 0.03)):
        old = measurement(latencies_s=latencies_s, streams=streams)
        assert old.images_per_second == pytest.approx(expected)
        assert "derived from latencies" in old.caveat
        assert math.isnan(old.compute_images_per_second)
    assert math.isnan(measurement().images_per_second)
    assert not measurement().caveat  # nothing was timed


def test_shares_are_hits_over_images_and_nan_without_any():
    found = measurement(
        predictions=(0, 1, 2, 3), labels=(0, 1, 2, 2), reference_predictions=(0, 1, 0, 0), top5_hits=4
    )
    assert (found.images, found.top1, found.top5, found.agreement, found.reference_top1) == (4, 0.75, 1.0, 0.5, 0.5)
    assert math.isnan(measurement(predictions=(0, 1)).top1)
    assert math.isnan(measurement(predictions=(0, 1)).agreement)


def test_wilsons_interval_is_that_of_scipy_and_all_shares_when_nothing_was_counted():
    for hits, total in [(0, 10), (1, 10), (10, 10), (7, 20), (913, 1000), (9412, 10_000)]:
        for confidence in (0.9, 0.95, 0.99):
            expected = stats.binomtest(hits, total).proportion_ci(confidence, method="wilson")
            assert wilson(hits, total, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert wilson(0, 0) == (0, 1)
    assert measurement().top1_interval == (0, 1)


def test_a_batch_of_none_or_an_unknown_execution_is_refused():
    for wrong, words in (({"batch": 0}, "positive whole number"), ({"execution": "guessed"}, "'executed'")):
        with pytest.raises(WorkbenchError, match=words):
            measurement(**wrong)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("predictions", [1, True]),
        ("predictions", [1, 2.5]),
        ("predictions", [1, 10**30]),
        ("latencies_s", [1.0, math.nan]),
        ("latencies_s", [1.0, math.inf]),
        ("latencies_s", [1.0, "2"]),
    ],
)
def test_one_wrong_number_among_good_ones_is_refused_by_its_place(field, values):
    data = encode(Measurement("jax", "m", Recipe(), 1, "digest", (1.0,))) | {field: values}
    with pytest.raises(WorkbenchError, match=f"item 2 of {field}"):
        decode(Measurement, data)


def test_numbers_of_several_kinds_are_read_as_before():
    data = encode(Measurement("jax", "m", Recipe(), 1, "digest", ())) | {"device_s": [1, 2.5]}
    assert decode(Measurement, data).device_s == (1, 2.5)
