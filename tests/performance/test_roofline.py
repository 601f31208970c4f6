"""The roof of the machine at hand, and measurements placed on it."""

from __future__ import annotations

import pytest

from workbench.performance.roofline import Roof, fastest, measure_roof, place
from workbench.records import Measurement, Recipe

ROOF = Roof("a card", "fp16", peak_flops=100e12, bandwidth=1e12, measured=False, source="made up")


@pytest.mark.parametrize(("intensity", "flops"), [(1, 1e12), (50, 50e12), (100, 100e12), (1000, 100e12)])
def test_the_roof_is_the_lower_of_peak_and_bandwidth(intensity, flops):
    assert ROOF.attainable(intensity) == flops
    assert ROOF.ridge == 100


def test_a_measured_roof_is_plausible_for_any_cpu():
    told = []
    roof = measure_roof(seconds=0.05, progress=lambda *step: told.append(step))
    assert 1e8 < roof.peak_flops < 1e14
    assert 1e8 < roof.bandwidth < 1e13
    assert roof.measured
    assert told[-1] == ("copy", 2, 2)


def test_the_fastest_of_at_least_three_calls_counts():
    calls = []
    assert 0 < fastest(lambda: calls.append(1), seconds=0) < 1
    assert len(calls) == 3


def test_a_measurement_is_placed_by_its_flop_and_bytes():
    taken = Measurement("onnxruntime", "m", Recipe("fp16"), batch=4, variant="", latencies_s=(0.5, 0.5, 0.5))
    point = place(taken, flops=2e9, bytes_moved=1e8)
    assert point == {
        "label": "onnxruntime fp16",
        "precision": "fp16",
        "intensity": 20,
        "gflops": pytest.approx(4.0),
    }


def test_several_streams_do_the_work_of_several_calls():
    taken = Measurement("tensorrt", "m", Recipe(), batch=2, variant="", latencies_s=(0.1,) * 3, streams=3)
    assert place(taken, flops=1e9, bytes_moved=1e9)["gflops"] == pytest.approx(30)
