"""Ratios in a study's frame."""

import math

import pytest

from workbench.records import Measurement, Recipe
from workbench.studies.choice import choose
from workbench.studies.frame import as_frame, measured_row


def row(precision, seconds, host=""):
    recipe = Recipe(precision, layout="cpu")
    facts = {"isa": "avx2"}
    answers = {"predictions": (0, 1, 1), "labels": (0, 1, 1), "reference_predictions": (0, 1, 1)}
    found = Measurement("onnxruntime", "m", recipe, 1, precision, (seconds,) * 20, environment=facts, **answers)
    return measured_row(found, host)


def test_a_ratio_beyond_what_eight_bits_can_give_is_questioned_and_not_printed():
    frame = as_frame([row("fp32", 0.0935), row("int8-dynamic", 0.01)])
    assert frame.speedup[0] == 1
    assert math.isnan(frame.speedup[1])
    assert "9.35 × FP32 is beyond the 4 × of its arithmetic" in frame.notes[1]
    assert frame.images_per_second[1] == pytest.approx(100)  # what was measured stays
    reason = choose(frame).reason
    assert "questioned: 9.35 × FP32 is beyond" in reason
    assert "(9.35 × FP32 on ONNX Runtime)" not in reason


def test_a_ratio_that_can_be_is_printed_and_one_on_another_machine_is_not_questioned():
    frame = as_frame([row("fp32", 0.039), row("int8-dynamic", 0.01), row("int8", 0.001, host="server")])
    assert frame.speedup[1] == pytest.approx(3.9)
    assert frame.speedup[2] == pytest.approx(39)
    assert not frame.notes.str.contains("beyond").any()


def test_without_labels_the_agreement_is_known_and_the_points_lost_are_not():
    measurement = Measurement(
        "tensorrt", "model", Recipe("fp16"), 8, "digest", (1.0,), predictions=(1, 2), reference_predictions=(1, 3)
    )
    row = measured_row(measurement)
    assert row["agreement"] == 0.5
    assert math.isnan(row["drop_points"])
