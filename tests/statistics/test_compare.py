import dataclasses
import math

import numpy as np
import pytest

from workbench.errors import WorkbenchError
from workbench.measuring.timing import OPENINGS, rounds_in
from workbench.records import Measurement, Recipe
from workbench.statistics.compare import compare


def timed(seconds, *, interleaved="", batch=8, **fields):
    """A measurement; of interleaved calls each is a round of its own, and an opening lasts 12 rounds."""
    environment = {"cpu": "a CPU", **({"interleaved": interleaved} if interleaved else {})}
    named = ("onnxruntime", "tiny", Recipe(), batch, "v")
    rounds = tuple(range(len(seconds))) if interleaved else ()
    numbers = {"rounds": rounds, "openings": tuple(number // 12 for number in rounds)}
    return Measurement(*named, tuple(seconds), environment=environment, **numbers | fields)


def noise(rng, calls, centre=0.01, spread=0.05):
    """Times with the right-hand tail that real ones have."""
    return centre * np.exp(spread * np.abs(rng.standard_normal(calls)))


# ---- speed -----------------------------------------------------------------------------------------------------


def test_an_engine_against_itself_cannot_be_told_apart():
    a = timed(noise(np.random.default_rng(0), 200))
    found = compare(a, a)
    assert found.speed == "cannot tell"
    assert found.speedup == 1
    assert found.speedup_interval[0] < 1 < found.speedup_interval[1]


def test_half_the_time_is_twice_as_fast_in_one_direction_and_half_in_the_other():
    rng = np.random.default_rng(1)
    fast, slow = timed(noise(rng, 200)), timed(noise(rng, 200, centre=0.02))
    assert compare(fast, slow).speed == "faster"
    assert compare(fast, slow).speedup == pytest.approx(2, rel=0.03)
    assert compare(slow, fast).speed == "slower"
    low, high = compare(fast, slow).speedup_interval
    assert compare(slow, fast).speedup_interval == pytest.approx((1 / high, 1 / low))


def drifting(rng, calls):
    """A random walk of the machine's own speed, as from neighbours and clocks: some 10 % over a run."""
    return np.exp(np.cumsum(rng.standard_normal(calls)) * 0.1 / math.sqrt(calls))


@pytest.mark.parametrize("interleaved", ["t", ""])
def test_equal_engines_on_a_machine_that_drifts_are_rarely_told_apart(interleaved):
    rng = np.random.default_rng(2)
    verdicts = []
    for _ in range(100):
        first = drifting(rng, 100)
        second = first if interleaved else drifting(rng, 100)
        a, b = (timed(noise(rng, 100) * machine, interleaved=interleaved) for machine in (first, second))
        verdicts.append(compare(a, b).speed)
    assert verdicts.count("cannot tell") > 88  # 95 % are promised; 88 is three deviations below


def test_interleaved_runs_tell_five_percent_where_separate_runs_cannot():
    rng = np.random.default_rng(4)
    machine = drifting(rng, 200)
    fast, slow = noise(rng, 200) * machine, noise(rng, 200, centre=0.0105) * machine
    assert compare(timed(fast, interleaved="t"), timed(slow, interleaved="t")).speed == "faster"
    assert compare(timed(fast), timed(slow)).speed == "cannot tell"
    assert "Interleaved runs may tell" in str(compare(timed(fast), timed(slow)))


def test_the_calls_that_would_decide_are_more_than_were_made_and_enough():
    rng = np.random.default_rng(5)

    def compared(calls, ratio):
        fast, slow = noise(rng, calls, spread=0.4), noise(rng, calls, centre=0.01 * ratio, spread=0.4)
        return compare(timed(fast, interleaved="t"), timed(slow, interleaved="t"))

    found = compared(200, ratio=1.03)
    assert found.speed == "cannot tell"
    assert found.calls_needed > 200
    assert f"{found.calls_needed:,} calls" in str(found)
    verdicts = [compared(found.calls_needed, found.speedup).speed for _ in range(40)]  # the ratio as it was seen
    assert verdicts.count("faster") >= 24  # about 32 are promised


def busy(rng, slots):
    """How much longer calls take while other processes come and go: for stretches of time, by up to five times."""
    lengths = rng.geometric(0.1, slots)
    return np.repeat(rng.choice([1.0, 1.0, 2.0, 5.0], slots), lengths)[:slots]


def test_equal_engines_in_random_order_are_rarely_told_apart_on_a_busy_machine():
    rng = np.random.default_rng(7)
    verdicts = []
    for _ in range(300):
        slots = (noise(rng, 200) * busy(rng, 200)).reshape(100, 2)  # round by round, in the order of time
        a, b = (timed(times, interleaved="t") for times in rng.permuted(slots, axis=1).T)
        verdicts.append(compare(a, b).speed)
    assert verdicts.count("cannot tell") >= 273  # 95 % are promised; 273 is three deviations below


#: Rounds of each session at 4 s; their scatter, which leaves 0.8 % of error; that of two openings of one engine.
ROUNDS, OF_A_ROUND, OF_AN_OPENING = rounds_in(4), 0.08, 0.012


def opened_anew(rng, openings, ratio):
    """Two measurements of 4 s on a machine whose load wanders; the second's calls are ``ratio`` times as long.

    Rounds are in random order, and each opening of a session is by chance faster or slower than another.
    """
    opening = np.arange(ROUNDS) * openings // ROUNDS
    noise = np.exp(OF_A_ROUND / math.sqrt(2) * rng.standard_normal((ROUNDS, 2)))
    load = busy(rng, 2 * ROUNDS).reshape(ROUNDS, 2) ** 0.3 * drifting(rng, ROUNDS)[:, None]
    placed = np.exp(OF_AN_OPENING / math.sqrt(2) * rng.standard_normal((openings, 2)))[opening]
    seconds = 0.01 * rng.permuted(noise * load, axis=1) * placed * [1, ratio]
    return [timed(of_one, interleaved="t", openings=tuple(opening.tolist())) for of_one in seconds.T.tolist()]


def test_openings_of_one_engine_are_rarely_told_apart_and_five_percent_mostly():
    rng = np.random.default_rng(3)
    equal = [compare(*opened_anew(rng, OPENINGS, 1.0)).speed for _ in range(1000)]
    assert equal.count("cannot tell") >= 930  # 95 % are promised; 930 is three deviations below
    slower = [compare(*opened_anew(rng, OPENINGS, 1.05)).speed for _ in range(200)]
    assert slower.count("faster") >= 180
    assert "slower" not in slower


def test_one_opening_of_each_engine_is_not_taken_for_the_engine():
    rng = np.random.default_rng(3)
    equal = [compare(*opened_anew(rng, 1, 1.0)).speed for _ in range(400)]
    assert equal.count("cannot tell") >= 367  # three deviations below 95 %; the scatter of rounds alone gives 303


def test_equal_engines_that_are_called_unequally_often_in_a_round_are_rarely_told_apart():
    """The warm-up on a busy machine may find one slow, so that it gets one call where the other gets five."""
    rng, verdicts = np.random.default_rng(9), []

    def called(calls):
        rounds = tuple(number for number in range(96) for _ in range(calls))
        openings = tuple(number // 12 for number in rounds)
        return timed(noise(rng, 96 * calls, spread=0.5), interleaved="t", rounds=rounds, openings=openings)

    for _ in range(100):
        verdicts.append(compare(called(1), called(5)).speed)
    assert verdicts.count("cannot tell") >= 88  # three deviations below 95 %


def test_few_openings_widen_the_interval_and_more_widen_it_less():
    rng = np.random.default_rng(8)
    rounds = noise(rng, 90, spread=0.01), noise(rng, 90, spread=0.01)

    def interval(openings):
        numbers = () if openings is None else tuple(n * openings // 90 for n in range(90))
        return compare(*(timed(each, interleaved="t", openings=numbers) for each in rounds)).speedup_interval

    assert interval(None) == interval(1)  # records of earlier versions do not tell openings
    one, five = (high / low - 1 for low, high in (interval(1), interval(5)))
    assert 0.047 < one < 0.055  # 1.96 deviations of 1.2 % to either side, and little of the rounds' own
    assert 0.021 < five < 0.03


def test_rounds_are_compared_within_one_opening_only():
    """A study that was killed between two sessions of a round opens both anew and takes the second one's."""
    openings = [n // 5 for n in range(40)]
    first = timed([0.01] * 40, interleaved="t", openings=tuple(openings))
    strange = [1.0 if n == 4 else 0.02 for n in range(40)]
    second = timed(strange, interleaved="t", openings=(*openings[:4], 1, *openings[5:]))
    assert compare(first, second).speedup == pytest.approx(2, rel=1e-9)


def test_only_rounds_that_both_took_part_in_are_compared():
    every, in_order = tuple(n // 2 for n in range(40)), (0,) * 40  # two calls in each of 20 rounds
    a = timed([0.01] * 40, interleaved="t", rounds=every, openings=in_order)
    b = timed([0.02] * 10, interleaved="t", rounds=tuple(range(0, 20, 2)), openings=(0,) * 10)
    assert compare(a, b).speed == "faster"
    assert compare(a, b).speedup == pytest.approx(2)
    few = timed([0.02] * 5, interleaved="t", rounds=tuple(range(0, 20, 4)), openings=(0,) * 5)
    assert compare(a, few).speed == "cannot tell"


def test_five_calls_decide_nothing():
    found = compare(timed([0.01] * 5), timed([0.1] * 5))
    assert found.speed == "cannot tell"
    assert compare(timed([0.01] * 6), timed([0.1] * 6)).speed == "faster"


def test_emulation_and_other_machines_are_told():
    a = timed([0.01] * 9, execution="emulated")
    b = dataclasses.replace(timed([0.01] * 9), environment={"cpu": "another"})
    assert any("emulated" in note for note in compare(a, b).notes)
    assert any("different machines" in note for note in compare(a, b).notes)


@pytest.mark.parametrize("interleaved", ["", "together"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_ratio_that_no_arithmetic_allows_is_questioned_and_not_printed(interleaved, turned):
    rng = np.random.default_rng(0)
    plain = timed(noise(rng, 100, 0.0935), interleaved=interleaved)
    eight = timed(noise(rng, 100, 0.01), interleaved=interleaved)
    eight = dataclasses.replace(eight, recipe=Recipe("int8-dynamic"))
    found = compare(*((plain, eight) if turned else (eight, plain)))
    assert (found.speed, found.speedup_interval) == ("cannot tell", (0.0, math.inf))
    assert math.isnan(found.speedup)
    assert found.calls_needed is None
    lines = str(found).splitlines()
    assert lines[0] == "Speed: cannot tell (100 and 100 calls)."
    assert "× FP32 is beyond the 4 × of its arithmetic: a busy machine" in lines[2]


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": {"cpu": "a CPU", "threads": 8}},  # eight threads against one
        {"environment": {"cpu": "another CPU"}},
        {"backend": "tensorrt"},
        {"latencies_s": (0.03,) * 50},  # 3.1 times
    ],
)
def test_a_ratio_that_something_else_than_the_width_of_numbers_explains_is_not_questioned(changes):
    plain = timed(noise(np.random.default_rng(0), 50, 0.0935))
    eight = dataclasses.replace(timed((0.01,) * 50), recipe=Recipe("int8-dynamic"), **{"rounds": ()} | changes)
    assert compare(eight, plain).speed == "faster"


def test_two_recipes_below_fp32_may_differ_by_any_factor():
    half, eight = (
        dataclasses.replace(timed((seconds,) * 50), recipe=Recipe(name))
        for name, seconds in (("fp16", 0.2), ("int8-dynamic", 0.01))
    )
    assert compare(eight, half).speedup == pytest.approx(20)


# ---- accuracy --------------------------------------------------------------------------------------------------


def judged(right, **fields):
    """Labels of 0 and predictions that are right (0) or wrong (1)."""
    return timed(
        [0.01] * 9, labels=(0,) * len(right), predictions=tuple(int(not r) for r in right), dataset="d", **fields
    )


def test_a_lossy_engine_is_worse_and_the_difference_is_counted_in_images():
    reference, lossy = judged([True] * 90 + [False] * 10), judged([True] * 70 + [False] * 30)
    found = compare(lossy, reference)
    assert found.accuracy == "worse"
    assert found.top1_difference == pytest.approx(-0.2)
    assert found.images == 100
    assert compare(reference, lossy).accuracy == "better"


def test_a_small_loss_cannot_be_told_and_the_sample_that_would_is_named():
    reference = judged([True] * 90 + [False] * 10)
    lossy = judged([True] * 88 + [False] * 12)
    found = compare(lossy, reference)
    assert found.accuracy == "cannot tell"
    assert found.images_needed > 100
    assert f"{found.images_needed:,} images would decide" in str(found)


def test_what_was_not_measured_is_not_compared_and_different_batches_or_images_are_refused():
    assert compare(timed([]), timed([0.01] * 9)).speed == "not measured"
    ten = judged([True] * 10)
    found = compare(timed([0.01] * 9), ten)
    assert found.accuracy == "not measured"
    assert "Top-1: not measured." in str(found)
    refused = [
        ("same batch", timed([0.01] * 9), timed([0.01] * 9, batch=16)),
        ("different images", ten, judged([True] * 12)),
        ("different images", ten, dataclasses.replace(ten, dataset="another")),
    ]
    for reason, a, b in refused:
        with pytest.raises(WorkbenchError, match=reason):
            compare(a, b)
