"""The search finds the best setting of surfaces whose best is known; the real runtime is tuned on a tiny model."""

import itertools
import math

import numpy as np
import pytest

import workbench as wb
from tests.tiny import Tiny
from workbench.errors import WorkbenchError
from workbench.studies.tuning import for_streams
from workbench.studies.tuning_search import Grid, Point, Search, Setting, first_setting

BATCHES, STREAMS = (1, 2, 4, 8, 16, 32, 64), (1, 2, 4)
GRID = Grid(BATCHES, STREAMS)
SPEC = wb.model_spec("S/16")


def surface(overhead_s, image_s, lanes, contention, limit_ms=None):
    """A device on which a call costs some time, and each image some more; ``lanes`` calls run side by side.

    Every stream beyond the lanes waits, and all of them slow each other down by ``contention``.
    """

    def measure(setting):
        call_s = (overhead_s + image_s * setting.batch) * (1 + contention * (setting.streams - 1))
        call_s *= max(1.0, setting.streams / lanes)
        rate = setting.batch * setting.streams / call_s
        return Point(setting, rate, 1e3 * call_s, 1.1e3 * call_s, limit_ms is None or 1.1e3 * call_s <= limit_ms)

    return measure


SURFACES = list(itertools.product((1e-4, 1e-3, 5e-3), (1e-4, 2e-3), (1, 2, 4), (0.0, 0.15, 0.5)))


@pytest.mark.parametrize("limit_ms", [None, 200, 20, 6])
def test_the_search_comes_within_3_percent_of_the_grids_best_with_a_third_of_its_measurements(limit_ms):
    tried = 0
    for form in SURFACES:
        measure = surface(*form, limit_ms)
        allowed = [
            p for p in map(measure, itertools.starmap(Setting, itertools.product(BATCHES, STREAMS))) if p.allowed
        ]
        if not allowed:
            continue
        tried += 1
        search = Search(GRID, measure)
        best = search.best_throughput(first_setting(GRID, SPEC), limit_ms)
        assert best.allowed, form
        assert len(search.points) <= GRID.size / 3
        assert best.images_per_second >= 0.97 * max(p.images_per_second for p in allowed), form
    assert tried > 20


def test_between_powers_of_two_a_batch_that_is_within_the_limit_is_found():
    measure = surface(5e-3, 1e-3, 1, 0.5, limit_ms=1.1 * 17.5)  # up to 12 images
    best = Search(GRID, measure).best_throughput(Setting(8, 1), 1.1 * 17.5)
    assert best.setting == Setting(12, 1)


def test_no_setting_is_measured_twice():
    measured = []

    def measure(setting):
        measured.append(setting)
        return surface(1e-3, 1e-3, 2, 0.1, limit_ms=10)(setting)

    Search(GRID, measure).best_throughput(Setting(16, 2), 10)
    assert len(set(measured)) == len(measured) > 1


def test_at_a_load_the_shortest_latency_that_keeps_up_is_taken():
    def measure(setting):  # larger batches carry more and take longer
        capacity, p99 = 100 * math.sqrt(setting.batch), 10.0 * setting.batch / setting.streams
        return Point(setting, min(250.0, capacity), p99, p99, capacity >= 250)

    best = Search(GRID, measure).least_latency(Setting(32, 2))
    assert best.setting == Setting(8, 4)


def test_the_search_begins_where_more_images_hardly_raise_the_arithmetic_intensity():
    wide = wb.model_spec("B/16")
    assert first_setting(GRID, SPEC).batch < 64
    assert first_setting(GRID, wide).batch >= first_setting(GRID, SPEC).batch
    assert first_setting(GRID, None) == Setting(8, 2)


@pytest.fixture(scope="module")
def variant(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuning")
    return wb.apply_recipe(Tiny.of().graph(folder), wb.Recipe(), folder / "workspace")


def test_a_runtime_is_tuned_and_its_engine_opens_as_it_was_measured(variant, tmp_path):
    told = []
    found = wb.tune(variant, "onnxruntime", tmp_path, max_batch=8, max_streams=2, seconds=0.05,
                    progress=lambda *now: told.append(now))  # fmt: skip
    assert 1 <= len(found.points) <= found.grid / 3 + 1
    assert found.grid == 8
    assert found.best in found.points
    assert found.best.images_per_second == max(p.images_per_second for p in found.points if p is found.best)
    assert list(found.frame().columns) == ["batch", "streams", "images_per_second", "p50_ms", "p99_ms", "allowed"]
    assert f"batch {found.batch} with {found.streams} stream" in str(found)
    assert told[-1][1] == told[-1][2]
    with wb.open_engine(found.engine) as session:
        assert session.environment["threads"] == found.engine.options["threads"]


def test_the_least_latency_at_a_load_counts_waiting(variant, tmp_path):
    found = wb.tune(variant, "onnxruntime", tmp_path, load=50.0, max_batch=4, max_streams=1, seconds=0.3)
    assert found.best.allowed
    assert "waiting included" in str(found)


def test_streams_of_a_cpu_share_its_cores_unless_threads_were_given(variant, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.studies.tuning.cores", lambda: 8)
    engine = wb.build_engine(variant, "onnxruntime", tmp_path)
    assert [for_streams(engine, n).options["threads"] for n in (1, 2, 4, 16)] == [8, 4, 2, 1]
    own = wb.build_engine(variant, "onnxruntime", tmp_path, options={"threads": 3})
    assert for_streams(own, 2).options["threads"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_latency_ms": 1e-6}, "No setting is within 1e-06 ms"),
        ({"load": 1e7, "seconds": 0.01}, "No setting keeps up with 1e"),
        ({"max_latency_ms": 5, "load": 5}, "A tuning has one aim"),
        ({"max_latency_ms": 0}, "max_latency_ms must be a number above zero"),
        ({"load": float("nan")}, "load must be a number above zero"),
        ({"max_batch": 0}, "max_batch must be a positive whole number"),
    ],
)
def test_what_cannot_be_tuned_is_refused(variant, tmp_path, arguments, words):
    given = {"max_batch": 2, "max_streams": 1, "seconds": 0.02} | arguments
    with pytest.raises(WorkbenchError, match=words):
        wb.tune(variant, "onnxruntime", tmp_path, **given)


def test_points_are_kept_in_the_ledger(variant, tmp_path):
    found = wb.tune(variant, "onnxruntime", tmp_path, max_batch=2, max_streams=1, seconds=0.02)
    kept = wb.Workspace(tmp_path).observations("tuning", Point, variant.digest)
    assert [(p.setting, p.p99_ms) for p in kept] == [(p.setting, p.p99_ms) for p in found.points]
    assert np.isfinite([p.images_per_second for p in kept]).all()
