"""Each figure of the tables of a recorded run follows from its raw values."""

import numpy as np
import pytest

from tests.studies.recording import results
from workbench.performance.expected import ARTICLE, published_roof
from workbench.reporting import recorded as tables
from workbench.studies.recorded import read_run, write_run

#: Multiply-accumulates of ViT-B/32 for one image, by hand: 50 tokens of width 768, 12 blocks, an MLP of 3072.
B32_MACS = 12 * (50 * (4 * 768**2 + 2 * 768 * 3072) + 2 * 50**2 * 768) + 49 * 3 * 32**2 * 768 + 768 * 1000


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_run(folder / "h200.jsonl", results(folder))
    return read_run(folder / "h200.jsonl")


def test_precisions_stand_beside_the_fp32_of_the_same_runtime_and_the_limit_of_the_card(run):
    table = tables.precisions(run, batch=32).set_index("case")
    assert list(table.index) == ["b32-fp16", "b32-fp16-range", "b32-int8", "b32-fp32"]
    assert table["× fp32"].tolist() == pytest.approx([2.0, 1.6, 2.2, 1.0])
    assert table["share of limit"].between(0.05, 1).all()
    assert table.loc["b32-int8", "share of limit"] < table.loc["b32-fp16", "share of limit"]


def test_the_articles_figures_stand_beside_tensorrt_and_each_point_lies_under_the_roof_of_its_type(run):
    table = tables.beside_article(run).set_index("case")
    assert table.loc["b32-fp16", "article on a T4, img/s"] == ARTICLE["fp16"]
    assert table.loc["b32-int8", "its share of limit"] < 0.01
    points = tables.roofline_points(run).set_index("label")
    assert points.loc["b32-fp16", "gflops"] == pytest.approx(20_000 * 2 * B32_MACS / 1e9, rel=0.01)
    for name, point in points.iterrows():
        assert point.gflops < published_roof("H200", point.precision).row()["peak_gflops"], name


def test_each_model_stands_at_its_best_batch_with_the_best_end_to_end_of_any_number_of_streams(run):
    table = tables.models(run).set_index("case")
    assert table.loc["b32-fp16", "batch"] == 128
    assert table.loc["b32-fp16", "img/s"] == pytest.approx(30_000)
    assert table.loc["b32-fp16", "end to end, img/s"] == pytest.approx(15_000)
    assert table.loc["b32-jax-bfloat16", "runtime"] == "JAX 0.11"
    assert np.isnan(table.loc["shapes-fp16", "share of limit"])


def test_streams_are_held_against_the_best_compute_of_their_case(run):
    table = tables.streams(run)
    assert table.streams.tolist() == [1, 8]
    assert table.share.tolist() == pytest.approx([0.5, 14 / 30])


def test_memory_has_a_column_for_each_batch_and_no_engine_for_a_baseline(run):
    table = tables.memory(run).set_index("case")
    assert table.loc["b32-fp16", [32, 128]].tolist() == [5.0, 5.0]
    assert np.isnan(table.loc["b32-fp16", 256])
    assert table.loc["b32-fp16", "engine MiB"] == 3


def test_the_price_of_dynamic_shapes_is_a_number(run):
    assert tables.profiles(run).gain.tolist() == pytest.approx([0.25, 0.2])


def test_the_times_of_all_kernels_are_in_the_table_of_two_engines_by_role_and_kind(run):
    table = tables.kernel_times(run)
    for case, column in (("b32-fp16", "b32-fp16, ms"), ("b32-int8", "b32-int8, ms")):
        assert table[column].sum() == pytest.approx(
            sum(1e3 * one.kernel.seconds for one in run.case(case).placed())
        )
    assert {"product", "attention", "other"} <= set(table.kind)
    assert table["b32-int8, ms"].is_monotonic_decreasing


def test_points_lost_are_counted_against_the_runs_own_fp32_on_the_same_images(run):
    table = tables.accuracy(run).set_index("case")
    assert table.loc["shapes-fp32", "points lost"] == 0
    assert table.loc["shapes-fp16", "points lost"] == pytest.approx(20)
    assert table.loc["shapes-fp16", "at least"] < 20 < table.loc["shapes-fp16", "at most"]


def test_estimates_are_held_against_what_was_recorded_and_the_guide_shows_by_how_much_they_were_off(run):
    held = tables.against_estimates(run)
    assert "shapes-vit" not in set(held.model)
    assert (held["likely from"] < held["to"]).all()
    assert held.inside.equals(held["recorded, img/s"].between(held["likely from"], held["to"]))
    guide = tables.batch_guide(run, batches=(32, 64)).set_index(["card", "batch"])
    known = held.query("case == 'b32-fp16' and batch == 32").iloc[0]
    share = known["recorded, img/s"] / known["likely from"]
    assert guide.loc[("T4", 32), "recorded / likely from"] == pytest.approx(share)
    assert np.isnan(guide.loc[("V100", 64), "recorded / likely from"])
