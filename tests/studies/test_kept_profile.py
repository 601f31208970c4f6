import dataclasses

import pytest

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.studies import kept_profile
from workbench.studies.kept_profile import find_or_profile_attention

SPEC = wb.ModelSpec("tiny", image_size=16, patch=4, width=16, depth=1, heads=2, mlp=32, classes=3)
SIZES = [16, 20, 24, 28, 32]


@pytest.fixture
def counted(monkeypatch):
    """How often a sweep was measured; the meter is one that needs no JAX."""
    runs, measure = [], kept_profile.profile_attention

    def profile(spec, sizes, *, meter, source, progress):
        def times(spec):
            base = 1e-6 * spec.tokens
            whole = {"attention": base * spec.tokens, "mlp": 3 * base, "rest": base}
            return {**{part: [s, 2 * s] for part, s in whole.items()}, "whole": [sum(whole.values())] * 2}

        runs.append(sizes)
        return measure(spec, sizes, meter=times, source=source, progress=progress)

    monkeypatch.setattr(kept_profile, "profile_attention", profile)
    return runs


def test_a_sweep_is_measured_once_and_comes_back_as_it_was(counted, tmp_path):
    first, name = find_or_profile_attention(SPEC, SIZES, tmp_path)
    second, again = find_or_profile_attention(SPEC, SIZES, tmp_path)
    assert len(counted) == 1
    assert again == name
    assert second.frame().equals(first.frame())
    assert (second.held_back, second.source, second.spec) == (32, "JAX on this machine", SPEC)
    assert second.splits[16].whole_s == pytest.approx(1e-6 * 17 * (17 + 3 + 1))  # 16 patches and a class token


def test_another_model_other_sizes_seconds_or_machine_are_measured(counted, tmp_path, monkeypatch):
    find_or_profile_attention(SPEC, SIZES, tmp_path)
    find_or_profile_attention(dataclasses.replace(SPEC, heads=4), SIZES, tmp_path)
    find_or_profile_attention(SPEC, [*SIZES, 36], tmp_path)
    find_or_profile_attention(SPEC, SIZES, tmp_path, seconds=0.1)
    monkeypatch.setattr(kept_profile, "machine_facts", lambda: {"cpu": "another"})
    find_or_profile_attention(SPEC, SIZES, tmp_path)
    assert len(counted) == 5


def test_sizes_that_cannot_be_fitted_are_refused_and_nothing_is_kept(counted, tmp_path):
    with pytest.raises(WorkbenchError, match="No curve can be fitted"):
        find_or_profile_attention(SPEC, SIZES[:2], tmp_path)
    assert wb.Workspace(tmp_path).observations(kept_profile.KEPT, kept_profile.KeptProfile) == []
