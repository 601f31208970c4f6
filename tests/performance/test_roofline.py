"""The roof of the machine at hand, and measurements placed on it."""

from __future__ import annotations

import dataclasses
import resource
import time

import pytest

from workbench.errors import WorkbenchError
from workbench.models import probe
from workbench.performance import roofline
from workbench.performance.roofline import (
    Roof,
    copied_bytes,
    fastest,
    measure_jax_roof,
    measure_roof,
    place,
    product_flops,
)
from workbench.records import Measurement, Recipe, Window

ROOF = Roof("a card", "fp16", peak_flops=100e12, bandwidth=1e12, measured=False, source="made up")


@pytest.mark.parametrize(("intensity", "flops"), [(1, 1e12), (50, 50e12), (100, 100e12), (1000, 100e12)])
def test_the_roof_is_the_lower_of_peak_and_bandwidth(intensity, flops):
    assert ROOF.attainable(intensity) == flops
    assert ROOF.ridge == 100


@pytest.fixture
def small(monkeypatch):
    """Matrices and buffers that fit a cache: fast, and no roof."""
    monkeypatch.setattr(roofline, "EDGES", (32, 64))
    monkeypatch.setattr(roofline, "COPIED", (1 << 16, 1 << 18))
    monkeypatch.setitem(probe.SIZES, "cpu", ((32, 64), (1 << 16, 1 << 18)))


def test_a_measured_roof_is_plausible_for_any_device_and_says_what_was_timed(small):
    said = []
    here = measure_roof(seconds=0, progress=lambda *step: said.append(step))
    assert "matrices up to 64 × 64" in here.source
    assert said[-1] == ("copy", 2, 2)
    jax = {precision: measure_jax_roof(precision, seconds=0) for precision in ("fp32", "bf16")}
    assert all(roof.label.endswith(precision) for precision, roof in jax.items())
    assert here.peak_flops < 1e14
    for roof in (here, *jax.values()):
        assert roof.measured
        assert 1e6 < roof.peak_flops < 1e16
        assert 1e6 < roof.bandwidth < 1e14
    with pytest.raises(WorkbenchError, match="int8"):
        measure_jax_roof("int8")


def test_the_fastest_of_several_sizes_is_the_roof():
    products = {10: lambda: time.sleep(0.002), 100: lambda: time.sleep(0.004)}
    assert 1e8 < product_flops(products) <= 2 * 100**3 / 0.004
    passes = [(1000, lambda: time.sleep(0.001)), (10_000, lambda: time.sleep(0.002))]
    assert 1e6 < copied_bytes(passes) <= 2 * 10_000 / 0.002


def test_the_fastest_repetition_counts_and_the_first_call_is_not_timed():
    slow_at_first = iter([0.2, 0.003, 0.001, 0.002])
    found = fastest({"a": lambda: time.sleep(next(slow_at_first)), "b": lambda: None}, seconds=0)
    assert 0.001 <= found["a"] < 0.1
    assert found["b"] < found["a"]


def test_no_page_is_mapped_while_a_copy_is_timed(monkeypatch):
    # a buffer of 128 MiB that was never written to has 64 pages to map, or 512 times as many where they are small
    faults = []

    def count(passes, seconds=0.0):
        for _, call in passes:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            call()
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        return 1.0

    monkeypatch.setattr(roofline, "EDGES", (8,))
    monkeypatch.setattr(roofline, "COPIED", (128 << 20,))
    monkeypatch.setattr(roofline, "cores", lambda: 1)  # a thread that starts maps pages of its own
    monkeypatch.setattr(roofline, "copied_bytes", count)
    measure_roof(seconds=0)
    assert max(faults) < 32


def test_a_measurement_is_placed_by_its_flop_and_bytes_and_by_how_many_streams_did_the_work():
    taken = Measurement("onnxruntime", "m", Recipe("fp16"), batch=4, variant="", latencies_s=(0.5, 0.5, 0.5))
    alone = {"label": "onnxruntime fp16", "precision": "fp16", "intensity": 20, "gflops": pytest.approx(4.0)}
    assert place(taken, flops=2e9, bytes_moved=1e8) == alone
    shared = place(dataclasses.replace(taken, streams=3), flops=2e9, bytes_moved=1e8)
    assert shared == alone | {"gflops": pytest.approx(12.0)}
    windows = {"end_to_end": Window((10,), (20.0,)), "compute": Window((40,), (10.0,))}
    counted = place(dataclasses.replace(taken, **windows), flops=2e9, bytes_moved=1e8)
    assert counted == alone | {"gflops": pytest.approx(8.0)}  # four calls a second on the device, copies left out
