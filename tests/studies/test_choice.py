import numpy as np
import pandas as pd
import pytest

from workbench.errors import WorkbenchError
from workbench.studies.choice import choose, images_to_decide, pareto

COLUMNS = ["label", "batch", "images_per_second", "top1"]
COLUMNS += ["drop_points", "drop_points_low", "drop_points_high", "p99_ms"]
COLUMNS += ["memory_mib", "engine_mib", "joules_per_image"]


@pytest.fixture
def frame():
    rows = [
        ("fp32", 1, 100.0, 0.950, 0.0, -0.2, 0.2, 12.0, 50.0, 40.0, 1.2),
        ("fp32", 8, 120.0, 0.950, 0.0, -0.2, 0.2, 80.0, 90.0, 40.0, 0.9),
        ("int8", 1, 150.0, 0.948, 0.2, -0.1, 0.45, 8.0, 30.0, 12.0, 0.5),
        ("int8", 8, 200.0, 0.948, 0.2, -0.1, 0.45, 50.0, 40.0, 12.0, 0.4),
        ("int8-dynamic", 8, 260.0, 0.946, 0.4, 0.1, 0.9, 40.0, 60.0, 100.0, 0.7),
        ("fp8", 8, 500.0, 0.900, 5.0, 4.0, 6.0, 20.0, 70.0, 100.0, 0.7),
    ]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    constants = {"execution": "executed", "images": 1500.0, "speedup": np.nan}
    constants |= dict.fromkeys(("backend", "where"), "onnxruntime")
    frame["images_per_second_low"] = 0.99 * frame.images_per_second
    frame["images_per_second_high"] = 1.01 * frame.images_per_second
    return frame.assign(precision=frame.label, p50_ms=frame.p99_ms, **constants)


def test_the_front_holds_what_nothing_beats_in_both(frame):
    assert list(pareto(frame).label) == ["fp8", "int8-dynamic", "int8", "fp32"]
    assert list(pareto(frame).batch) == [8, 8, 8, 8]
    assert list(pareto(frame, batch=1).images_per_second) == [150, 100]


def test_a_front_against_energy_holds_the_most_frugal_and_leaves_out_what_was_not_measured(frame):
    frame["joules_per_image"] = np.nan
    by_place = dict(zip(frame.index, frame.top1))
    best = max(by_place, key=by_place.get)
    others = [place for place in by_place if place != best and by_place[place] < by_place[best]]
    frame.loc[best, "joules_per_image"] = 2.0
    frame.loc[others[0], "joules_per_image"] = 1.0  # less energy and less accuracy: on the front
    frame.loc[others[1], "joules_per_image"] = 3.0  # beaten in both
    frame["execution"] = "executed"
    assert list(pareto(frame, against="joules_per_image").index) == [others[0], best]
    with pytest.raises(WorkbenchError, match="weigh against accuracy"):
        pareto(frame, against="build_s")


@pytest.mark.parametrize("execution", ["built", "emulated", "to do"])
def test_what_was_not_executed_has_no_speed_of_its_own_and_is_neither_on_the_front_nor_chosen(frame, execution):
    frame.loc[frame.label == "int8-dynamic", "execution"] = execution
    assert "int8-dynamic" not in set(pareto(frame).label)
    assert choose(frame, max_drop=0.5).row["label"] == "int8"


def test_the_fastest_within_the_accuracy_limit_is_chosen_and_the_next_recipe_is_the_runner_up(frame):
    choice = choose(frame, max_drop=0.5)
    assert (choice.row["label"], choice.row["batch"]) == ("int8-dynamic", 8)
    assert (choice.runner_up["label"], choice.runner_up["batch"]) == ("int8", 8)
    assert "int8-dynamic on onnxruntime, batch 8" in choice.reason
    assert "0.40 points (95 % interval 0.10 to 0.90)" in choice.reason
    assert "with 260 images/s. It classifies" in choice.reason
    assert "losing 0.20 points (95 % interval -0.10 to 0.45)" in choice.reason
    frame.loc[frame.label == "int8", ["drop_points", "drop_points_low", "drop_points_high"]] = [-0.07, -0.42, 0.25]
    assert "gaining 0.07 points (95 % interval -0.25 to 0.42)" in choose(frame, max_drop=0.5).reason
    frame["speedup"] = frame.images_per_second / 120
    assert "images/s (2.17 × FP32 on ONNX Runtime). It" in choose(frame, max_drop=0.5).reason
    assert "int8 on onnxruntime, batch 8, 23% slower, losing" in choice.reason
    frame.loc[frame.label == "int8", "images_per_second_high"] = 258  # the intervals overlap
    assert "23% slower (which these samples cannot tell from equal)" in choose(frame, max_drop=1.0).reason


def test_of_rows_that_the_clock_cannot_tell_apart_the_one_whose_accuracy_is_shown_is_taken(frame):
    frame.loc[(frame.label == "int8") & (frame.batch == 8), "images_per_second_high"] = 258
    choice = choose(frame, max_drop=0.5)
    assert (choice.row["label"], choice.row["batch"], choice.verdict) == ("int8", 8, "holds")
    assert choice.place == 3
    assert "the fastest is int8-dynamic on onnxruntime, batch 8, but these samples cannot tell" in choice.reason
    assert "int8-dynamic on onnxruntime, batch 8, 30% faster (which these samples cannot tell" in choice.reason
    assert choose(frame, max_drop=1.0).row["label"] == "int8-dynamic"  # shown of both
    assert choose(frame, max_drop=None).row["label"] == "fp8"  # nothing to show


@pytest.mark.parametrize(
    ("limits", "label", "batch", "change"),
    [
        ({"max_drop": None}, "fp8", 8, None),
        ({"max_latency_ms": 30}, "int8", 1, "p99 at most 40 ms"),
        ({"min_images_per_second": 150}, "int8-dynamic", 8, "at most 5 points lost"),
        ({"max_memory_mib": 35}, "int8", 1, "at most 60 MiB of memory"),
        ({"max_engine_mib": 15, "max_drop": 10}, "int8", 8, "an engine of at most 100 MiB"),
        ({"max_joules_per_image": 0.5, "max_drop": 10}, "int8", 8, "at most 0.7 J per image"),
        ({"max_joules_per_image": 0.5, "max_latency_ms": 10}, "int8", 1, "p99 at most 50 ms"),
    ],
)
def test_any_limit_may_be_given_and_the_looser_one_that_changes_the_choice_is_named(
    frame, limits, label, batch, change
):
    choice = choose(frame, **limits)
    assert (choice.row["label"], choice.row["batch"]) == (label, batch)
    assert all(sentence in choice.reason for sentence in choice.changes)
    assert any(change in sentence for sentence in choice.changes) if change else choice.changes == ()


def test_following_the_change_that_a_choice_names_makes_that_choice(frame):
    assert choose(frame, max_drop=0.5).changes == (
        "With at most 5 points lost, the choice would be fp8 on onnxruntime, batch 8: 1.92 times as fast.",
    )
    assert choose(frame, max_drop=5).row["label"] == "fp8"


def test_a_limit_on_what_was_not_measured_is_refused_and_says_so(frame):
    with pytest.raises(WorkbenchError, match="joules_per_image was measured of no row") as caught:
        choose(frame.assign(joules_per_image=np.nan), max_joules_per_image=1.0)
    assert "RAPL" in caught.value.remedy


def test_a_sample_that_cannot_decide_says_so_with_the_sample_that_would_and_a_sure_alternative(frame):
    choice = choose(frame, max_drop=0.5)
    assert choice.verdict == "cannot tell"
    assert images_to_decide(choice.row, 0.5) == pytest.approx(1500 * (5 * (1.96 + 0.8416) / 1.96) ** 2, rel=1e-3)
    assert "About 77,000 images would decide it" in choice.reason
    assert "shown to hold is int8 on onnxruntime, batch 8" in choice.reason
    assert choose(frame, max_drop=1.0).verdict == "holds"


def test_a_latency_limit_excludes_the_large_batches(frame):
    choice = choose(frame, max_drop=0.5, max_latency_ms=10)
    assert (choice.row["label"], choice.row["batch"]) == ("int8", 1)
    assert "p99 at most 10 ms" in choice.reason
    assert choose(frame, batch=1).row["label"] == "int8"


def test_when_nothing_is_within_the_limits_the_nearest_is_named(frame):
    with pytest.raises(WorkbenchError) as caught:
        choose(frame, max_drop=0.5, max_latency_ms=7)
    assert "int8 on onnxruntime, batch 1" in caught.value.why
    assert "8 ms" in caught.value.remedy


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_drop": float("nan")}, "max_drop must be a number"),
        ({"max_drop": "0.5"}, "max_drop must be a number"),
        ({"max_latency_ms": "fast"}, "max_latency_ms must be a number"),
        ({"latency": "p95_ms"}, "Unknown latency column 'p95_ms'"),
        ({"batch": 4}, "at batch 4"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(frame, arguments, words):
    with pytest.raises(WorkbenchError, match=words):
        choose(frame, **arguments)
    with pytest.raises(WorkbenchError, match="run the study first"):
        choose(frame.assign(execution="to do"))
