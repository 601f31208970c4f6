"""The parts that the meter of JAX times, checked by their FLOP."""

from __future__ import annotations

import jax
import pytest

from workbench.models import meter
from workbench.models.meter import JaxMeter
from workbench.performance.cost import cost
from workbench.records import ModelSpec

TINY = ModelSpec("tiny", image_size=32, patch=8, width=32, depth=2, heads=2, mlp=64, classes=4)


def test_the_parts_that_jax_times_do_the_work_of_the_whole(monkeypatch):
    flops = {}

    def count(function, params, x):
        flops[len(flops)] = jax.jit(function).lower(params, x).cost_analysis().get("flops", 0)
        return lambda: None

    monkeypatch.setattr(meter, "_call", count)
    JaxMeter(seconds=0)(TINY)
    found = dict(zip(("whole", "attention", "mlp", "rest", "nothing"), flops.values()))
    assert found["nothing"] == 0
    parts = found["attention"] + found["mlp"] + found["rest"]
    assert parts == pytest.approx(found["whole"], rel=0.01)
    macs = cost(TINY).frame().groupby("role").macs.sum()
    assert found["rest"] < 2.5 * (macs["embedding"] + macs["head"]) + 40 * TINY.depth * TINY.tokens * TINY.width


def test_jax_times_every_part_of_a_real_model():
    times = JaxMeter(batch=2, seconds=0)(TINY)
    assert set(times) == {"attention", "mlp", "rest", "whole"}
    assert all(len(each) == 3 and min(each) > 0 for each in times.values())
