"""Times over resolution: curves, crossover and extrapolation from times that are known; the meter by its FLOP."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from workbench.errors import Cancelled, WorkbenchError
from workbench.models.vit import model_spec
from workbench.performance.attention_profile import profile_attention
from workbench.performance.cost import cost
from workbench.performance.crossover import attention_overtakes_mlp, tokens_at

SPEC = model_spec("tutorial")
SIZES = (64, 96, 128, 160, 192, 224, 256)


def meter(spec, *, scatter=0.0, fused=False, seed=0):
    """A machine that does 1 GMAC a millisecond and is never disturbed by more than ``scatter``."""
    random = np.random.default_rng(spec.image_size + seed)
    tokens, width = spec.tokens, spec.width
    macs = {
        "attention": spec.depth * (4 * tokens * width**2 + (0 if fused else 2 * tokens**2 * width)),
        "mlp": spec.depth * 2 * tokens * width * spec.mlp,
        "rest": 3000.0 * tokens,
    }
    times = {part: [m * 1e-12 * np.exp(scatter * random.standard_normal())] * 3 for part, m in macs.items()}
    return {**times, "whole": [sum(each[0] for each in times.values())] * 3}


@pytest.fixture(scope="module")
def exact():
    return profile_attention(SPEC, SIZES, meter=meter, source="a machine")


def test_where_every_mac_takes_the_same_time_the_crossover_is_that_of_the_macs(exact):
    low, middle, high = exact.crossover()
    expected = attention_overtakes_mlp(SPEC)
    assert middle.tokens == pytest.approx(expected.tokens, rel=1e-6)
    assert middle.image_size == pytest.approx(expected.image_size, rel=1e-6)
    assert low.tokens == pytest.approx(high.tokens, rel=1e-3)
    assert "384 tokens, an image of 157 pixels" in exact.verdict()
    for other in map(model_spec, ("S/16", "B/16", "L/16", "H/14")):  # from their widths
        expected = attention_overtakes_mlp(other).tokens
        assert exact.crossover_of(other)[1].tokens == pytest.approx(expected, rel=1e-6)
    narrow = profile_attention(dataclasses.replace(SPEC, mlp=SPEC.width), SIZES, meter=meter)
    assert narrow.crossover()[1].tokens == pytest.approx(0, abs=1)  # attention leads from the first token on


def test_the_curves_predict_the_size_that_is_held_back(exact):
    measured = exact.frame().query("kind == 'measured' and part == 'mlp'")
    assert list(measured.image_size) == list(SIZES)
    assert list(measured.tokens) == [tokens_at(SPEC, size) for size in SIZES]
    frame = exact.extrapolation().set_index("part")
    assert exact.held_back == 256
    assert np.allclose(frame.error, 0, atol=1e-9)
    assert frame.measured_ms["attention"] == pytest.approx(1e-9 * cost_of_attention(256))


def cost_of_attention(size):
    rows = cost(dataclasses.replace(SPEC, image_size=size)).frame()
    return rows[rows.role.isin(["qkv", "scores", "proj"])].macs.sum()


def test_a_curve_with_scatter_holds_the_truth_in_its_band_and_says_how_wide_it_is():
    inside = []
    for seed in range(40):
        noisy = profile_attention(SPEC, SIZES, meter=lambda s, n=seed: meter(s, scatter=0.05, seed=n * 1000))
        low, _, high = noisy.crossover()
        frame = noisy.frame().query("kind == 'fitted'")
        assert ((frame.low < frame.ms) & (frame.ms < frame.high)).all()
        inside.append(low.tokens <= attention_overtakes_mlp(SPEC).tokens <= high.tokens)
    assert 0.8 < np.mean(inside) <= 1


def test_times_that_scatter_too_much_or_have_no_quadratic_term_tell_no_crossover():
    wild = profile_attention(SPEC, SIZES, meter=lambda s: meter(s, scatter=0.8), source="a machine")
    flat = profile_attention(SPEC, SIZES, meter=lambda s: meter(s, scatter=0.05, fused=True), source="a machine")
    assert wild.crossover() is None
    assert flat.crossover() is None or flat.crossover()[1].tokens > 2000
    assert "cannot tell" in wild.verdict()


def test_a_fixed_cost_of_every_call_is_no_attention():
    def slow_to_start(spec):
        return {part: [s + 5e-5 for s in seconds] for part, seconds in meter(spec).items()}

    made = profile_attention(SPEC, SIZES, meter=slow_to_start)
    assert made.crossover()[1].tokens == pytest.approx(attention_overtakes_mlp(SPEC).tokens, rel=1e-6)
    assert made.curves["mlp"].coefficients[0] == pytest.approx(5e-5)


@pytest.mark.parametrize(
    ("sizes", "made", "reason"),
    [
        ((64, 96, 128, 160), meter, "No curve can be fitted"),
        ((64, 96, 96, 64, 64), meter, "No curve can be fitted"),
        ((), meter, "No curve can be fitted"),
        ((64, 96, 128, 150, 160), meter, "cannot cut"),  # 150 pixels are no whole number of patches
        (SIZES, lambda spec: {"attention": [1.0]}, "does not time every part"),
    ],
)
def test_a_sweep_that_cannot_be_fitted_is_refused(sizes, made, reason):
    with pytest.raises(WorkbenchError, match=reason):
        profile_attention(SPEC, sizes, meter=made)


def test_progress_can_stop_the_sweep():
    def stop(stage, done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        profile_attention(SPEC, SIZES, meter=meter, progress=stop)
