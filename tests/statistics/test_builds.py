"""Verdicts over builds: made-up builds whose tactics differ, on a machine that changes between rounds."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from tests.tiny import Tiny, variant_of
from workbench.errors import WorkbenchError
from workbench.measuring.repeated_builds import repeat_builds_together
from workbench.records import Batches, Measurement, Recipe
from workbench.statistics.builds import compare_builds
from workbench.statistics.compare import compare

ROUNDS = 12


def measured(levels, rng, noise=0.01, weather=0.3, rounds=ROUNDS):
    """A measurement for each level (ms): rounds of 5 calls on a machine whose speed wanders from round to round."""
    slow = np.exp(weather * rng.standard_normal(rounds))
    found = []
    for level in levels:
        calls = 1e-3 * level * slow[:, None] * np.exp(noise * rng.standard_normal((rounds, 5)))
        numbers = tuple(np.repeat(np.arange(rounds), 5).tolist())
        one = Measurement("onnxruntime", "tiny", Recipe(), 1, "v", tuple(calls.ravel()), rounds=numbers,
                          environment={"interleaved": "all"})  # fmt: skip
        found.append(one)
    return found


def drawn(rng, builds, speedup=1.0, spread=0.05):
    """Builds of two variants, each build off the typical one of its variant by about ``spread``."""
    typical = [10.0] * builds + [10.0 * speedup] * builds
    found = measured(np.array(typical) * np.exp(spread * rng.standard_normal(2 * builds)), rng)
    return found[:builds], found[builds:]


def test_equal_variants_are_told_apart_in_one_of_twenty_cases_however_builds_differ():
    rng, cases = np.random.default_rng(0), 300
    said = [compare_builds(*drawn(rng, 4)).speed for _ in range(cases)]
    told = sum(verdict != "cannot tell" for verdict in said)
    assert stats.binomtest(told, cases, 0.05).pvalue > 0.01
    # two single builds of the same variants are "faster" or "slower" in most cases: that is about these builds
    pairs = [drawn(rng, 1) for _ in range(50)]
    assert sum(compare(*a, *b).speed != "cannot tell" for a, b in pairs) > 25


def test_a_difference_that_is_larger_than_that_of_builds_is_found_and_the_interval_holds_it():
    rng = np.random.default_rng(1)
    found = [compare_builds(*drawn(rng, 5, speedup=1.2)) for _ in range(100)]
    assert sum(one.speed == "faster" for one in found) > 90
    assert not any(one.speed == "slower" for one in found)
    held = sum(one.speedup_interval[0] <= 1.2 <= one.speedup_interval[1] for one in found)
    assert stats.binomtest(held, 100, 0.95).pvalue > 0.01


def test_the_numbers_are_welchs():
    ours, theirs = [10.0, 11.0, 10.5], [12.0, 12.5, 13.5, 12.2]
    found = measured([*ours, *theirs], np.random.default_rng(2), noise=0.0)
    made = compare_builds(found[:3], found[3:])
    expected = stats.ttest_ind(np.log(theirs), np.log(ours), equal_var=False).confidence_interval(0.95)
    assert made.speedup_interval == pytest.approx((np.exp(expected.low), np.exp(expected.high)))
    assert made.spreads == pytest.approx((0.1, 0.125))
    assert (made.speed, made.builds, made.builds_needed) == ("faster", (3, 4), None)
    assert "3 and 4 builds, which differ by up to 10.0% and 12.5%" in str(made)


def test_where_builds_differ_more_than_variants_it_says_how_many_would_decide():
    found = measured([10.0, 12.0, 10.4, 12.5], np.random.default_rng(3), noise=0.0)
    made = compare_builds(found[:2], found[2:])
    assert made.speed == "cannot tell"
    assert made.builds_needed > 2
    assert f"About {made.builds_needed} builds of each would decide" in str(made)


def test_what_was_not_timed_together_is_refused():
    found = measured([10.0, 12.0, 10.4, 12.5], np.random.default_rng(3))
    with pytest.raises(WorkbenchError, match="One build shows no spread"):
        compare_builds(found[:1], found[1:])
    alone = dataclasses.replace(found[0], environment={"interleaved": "another"})
    with pytest.raises(WorkbenchError, match="cannot be compared"):
        compare_builds([alone, found[1]], found[2:])
    later = dataclasses.replace(found[0], rounds=tuple(number + ROUNDS for number in found[0].rounds))
    with pytest.raises(WorkbenchError, match="cannot be compared"):
        compare_builds([later, found[1]], found[2:])


def test_builds_of_two_variants_are_built_alternately_and_timed_in_the_same_rounds(tmp_path):
    graph = Tiny.of().graph(tmp_path)
    variants = [variant_of(graph), dataclasses.replace(variant_of(graph), digest="another")]
    given = {"builds": 2, "batches": Batches(1, 2, 2), "seconds": 0.05}
    ours, theirs = repeat_builds_together(variants, "onnxruntime", tmp_path / "workspace", **given)
    assert [engine.variant.digest for engine in ours.engines] == [variants[0].digest] * 2
    assert [engine.variant.digest for engine in theirs.engines] == ["another"] * 2
    assert len({engine.run_id for each in (ours, theirs) for engine in each.engines}) == 4
    made = compare_builds(ours.measurements, theirs.measurements)
    assert made.builds == (2, 2)
    assert made.speedup_interval[0] <= made.speedup <= made.speedup_interval[1]
