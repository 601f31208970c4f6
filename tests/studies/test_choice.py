import numpy as np
import pandas as pd
import pytest

from workbench.errors import WorkbenchError
from workbench.studies.choice import choose, images_to_decide, pareto

COLUMNS = ["label", "batch", "images_per_second", "top1"]
COLUMNS += ["drop_points", "drop_points_low", "drop_points_high", "p99_ms"]


@pytest.fixture
def frame():
    rows = [
        ("fp32", 1, 100.0, 0.950, 0.0, -0.2, 0.2, 12.0),
        ("fp32", 8, 120.0, 0.950, 0.0, -0.2, 0.2, 80.0),
        ("int8", 1, 150.0, 0.948, 0.2, -0.1, 0.45, 8.0),
        ("int8", 8, 200.0, 0.948, 0.2, -0.1, 0.45, 50.0),
        ("int8-dynamic", 8, 260.0, 0.946, 0.4, 0.1, 0.9, 40.0),
        ("fp8", 8, 500.0, 0.900, 5.0, 4.0, 6.0, 20.0),
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
    assert "23% slower (which these samples cannot tell from equal)" in choose(frame, max_drop=0.5).reason


def test_a_sample_that_cannot_decide_says_so_with_the_sample_that_would_and_a_sure_alternative(frame):
    choice = choose(frame, max_drop=0.5)
    assert choice.verdict == "cannot tell"
    assert images_to_decide(choice.row, 0.5) == pytest.approx(1500 * (0.5 / 0.1) ** 2, abs=1)
    assert "About 38,000 images would decide it" in choice.reason
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
