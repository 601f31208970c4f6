from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from workbench.errors import WorkbenchError
from workbench.records import Measurement, Recipe
from workbench.reporting import figures
from workbench.reporting.figures.theme import COLOURS
from workbench.studies.choice import choose
from workbench.studies.frame import as_frame, cell_row, measured_row


def measured(precision, batch, ms, wrong, execution="executed"):
    """A thousand images of which ``wrong`` are wrong, and a hundred calls around ``ms``."""
    labels = tuple([0] * 1000)
    predictions = tuple([1] * wrong + [0] * (1000 - wrong))
    latencies = tuple(ms * 1e-3 * (1 + 0.001 * np.arange(-50, 51)))
    answers = {"predictions": predictions, "reference_predictions": tuple([1] * 50 + [0] * 950), "labels": labels}
    engine = ("onnxruntime", "tiny", Recipe(precision), batch, precision, latencies)
    return Measurement(*engine, **answers, execution=execution)


@pytest.fixture
def frame():
    rows = [
        measured_row(measured("fp32", 1, 10, 50)),
        measured_row(measured("fp32", 8, 40, 50)),
        measured_row(measured("int8-dynamic", 1, 5, 60)),
        measured_row(measured("int8-dynamic", 8, 20, 60)),
        measured_row(measured("fp16", 8, 80, 50, "emulated")),
        cell_row("tensorrt", Recipe("fp8"), 8) | {"execution": "refused"},
    ]
    return as_frame(rows)


def table(columns, *rows):
    return pd.DataFrame(rows, columns=columns.split())


def trace(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_the_pareto_figure_shows_throughput_accuracy_and_the_intervals_of_the_comparison_with_fp32(frame):
    frame.loc[frame.label == "int8-dynamic", ["speedup_low", "speedup_high"]] = [1.8, 2.3]
    figure = figures.pareto(frame)
    series = trace(figure, "int8-dynamic")
    assert list(series.x) == pytest.approx([200, 400])
    assert list(series.y) == pytest.approx([94, 94])
    assert (series.error_x.arrayminus[0], series.error_x.array[0]) == pytest.approx((20, 30))  # of FP32's 100
    row = frame[frame.label == "int8-dynamic"].iloc[0]
    assert series.error_y.array[0] == pytest.approx(row.drop_points - row.drop_points_low)
    assert list(trace(figure, "fp32").error_x.array) == [0, 0]
    assert "2.00 × FP32 on ONNX Runtime at this batch (95 % 1.80 to 2.30)" in series.hovertext[0]
    assert series.marker.color == COLOURS["int8-dynamic"]
    assert "images/s" in figure.layout.xaxis.title.text
    assert "%" in figure.layout.yaxis.title.text
    assert "1,000 images" in figure.layout.title.text
    for part in ("int8-dynamic", "batch 8", "400.0 images/s", "20 ms median", "94.00%", "1,000 images",
                 "1.00 points lost", "2.00 × FP32", "executed", "MiB"):  # fmt: skip
        assert part in series.hovertext[1]


def test_throughputs_far_apart_stand_on_an_axis_of_whole_numbers(frame):
    frame.loc[0, "images_per_second"] = 20
    axis = figures.pareto(frame[frame.execution != "refused"]).layout.xaxis
    assert axis.type == "log"
    assert {20, 50, 100, 200} <= set(axis.tickvals)


def test_the_front_joins_what_nothing_beats_and_the_choice_is_ringed(frame):
    figure = figures.pareto(frame, choose(frame, max_drop=2), max_drop=2)
    front = trace(figure, "Pareto front")
    assert list(front.x) == pytest.approx([400, 200])  # int8-dynamic and fp32, both at batch 8
    assert list(front.y) == pytest.approx([94, 95])
    assert trace(figure, "chosen").x[0] == pytest.approx(400)
    assert figure.layout.shapes[0].y0 == pytest.approx(93)  # FP32's 95 % less 2 points


def test_the_pareto_figure_against_energy_shows_the_cells_whose_energy_was_read(frame):
    assert not figures.has_energy(frame)
    frame.loc[frame.label == "fp32", "joules_per_image"] = [2.0, 1.5]
    frame.loc[(frame.label == "int8-dynamic") & (frame.batch == 8), "joules_per_image"] = 0.5
    assert figures.has_energy(frame)
    figure = figures.pareto(frame, choose(frame, max_drop=2), max_drop=2, against="joules_per_image")
    assert list(trace(figure, "fp32").x) == [2.0, 1.5]
    assert list(trace(figure, "int8-dynamic").x) == [0.5]
    assert list(trace(figure, "Pareto front").x) == [0.5, 1.5]
    assert list(trace(figure, "chosen").x) == [0.5]
    assert "J per image, lower is better" in figure.layout.xaxis.title.text
    assert "Accuracy against energy" in figure.layout.title.text
    frame.loc[frame.label == "int8-dynamic", "joules_per_image"] = np.nan  # the choice has no place there
    unread = figures.pareto(frame, choose(frame, max_drop=2), against="joules_per_image")
    assert "chosen" not in {trace.name for trace in unread.data}


def test_what_was_not_run_is_not_drawn_and_what_was_emulated_says_so(frame):
    names = {trace.name for trace in figures.pareto(frame).data}
    assert names == {"Pareto front", "fp32", "int8-dynamic", "fp16 (emulated)"}
    with pytest.raises(WorkbenchError, match="no rows"):
        figures.pareto(frame[frame.execution == "refused"])


def test_throughput_over_the_batch_has_a_named_line_per_recipe(frame):
    figure = figures.throughput_over_batch(frame)
    assert list(trace(figure, "fp32").x) == [1, 8]
    assert list(trace(figure, "fp32").y) == pytest.approx([100, 200])
    assert {a.text for a in figure.layout.annotations} == {"fp32", "int8-dynamic", "fp16"}
    assert "points lost against FP32" in trace(figure, "fp32").hovertext[0]
    assert figure.layout.yaxis.range[0] == 0


def test_latencies_show_their_percentiles_in_words():
    calls = pd.DataFrame({"label": "fp32", "precision": "fp32", "latency_ms": np.arange(1.0, 102.0)})
    figure = figures.latency_distribution(calls)
    assert list(trace(figure, "fp32 percentiles").x) == pytest.approx([51, 91, 100])
    assert "median 51 ms<br>p90 91 ms, p99 100 ms" in figure.data[0].y[0]
    assert figure.data[0].points == "all"  # one for each call
    assert len(figure.data[0].x) == len(calls[calls.precision == "fp32"])


def test_a_few_very_slow_calls_are_counted_beyond_the_axis():
    calls = pd.DataFrame({"label": "fp32", "precision": "fp32", "latency_ms": [10.0] * 999 + [1000.0]})
    axis = figures.latency_distribution(calls).layout.xaxis
    assert axis.range[1] == pytest.approx(14)
    assert "1 of 1,000 calls took longer, the longest 1,000 ms" in axis.title.text


def test_streams_show_throughput_with_its_spread_latency_and_where_more_gain_little():
    rows = [("fp32", "fp32", s, 100 * min(s, 4), 10 * s, 90 * min(s, 4), 130 * min(s, 4)) for s in (1, 2, 4, 8)]
    columns = "label precision streams images_per_second p99_ms images_per_second_low images_per_second_high"
    figure = figures.throughput_over_streams(table(columns, *rows), knee=4)
    throughput, latency = figure.data
    assert (list(throughput.y), list(latency.y)) == ([100, 200, 400, 400], [10, 20, 40, 80])
    assert list(throughput.error_y.array) == [30, 60, 120, 120]
    assert list(throughput.error_y.arrayminus) == [10, 20, 40, 40]
    text = "<b>fp32</b>, 2 streams<br>200.0 images/s (95 % of the run 180.0 to 260.0)<br>latency 20 ms p99"
    assert throughput.hovertext[1] == latency.hovertext[1] == text
    assert figure.layout.shapes[0].x0 == 4
    assert figure.layout.yaxis.range[1] > 520
    plain = figures.throughput_over_streams(table(columns, *rows).drop(columns=columns.split()[-2:]))
    assert plain.data[0].hovertext[0] == "<b>fp32</b>, 1 stream<br>100.0 images/s<br>latency 10 ms p99"


def test_settings_of_a_tuning_are_lines_of_streams_with_what_is_not_allowed_hollow_and_the_best_ringed():
    columns = "batch streams images_per_second p50_ms p99_ms allowed"
    rows = [(8, 1, 200, 40, 50, True), (1, 1, 100, 9, 10, True), (4, 2, 260, 80, 90, False)]
    best = SimpleNamespace(batch=8, streams=1)
    figure = figures.throughput_over_latency(table(columns, *rows), "int8", best, 60.0)
    one, two, ring = figure.data
    assert (one.name, list(one.x), list(one.y), list(one.text)) == ("1 stream", [10, 50], [100, 200], ["1", "8"])
    assert (two.name, list(two.marker.symbol)) == ("2 streams", ["square-open"])
    assert list(one.marker.symbol) == ["circle", "circle"]
    assert (list(ring.x), list(ring.y)) == ([50], [200])
    assert figure.layout.shapes[0].x0 == 60
    assert "not allowed" in two.hovertext[0]
    assert "not allowed" not in one.hovertext[0]
    waiting = figures.throughput_over_latency(table(columns, *rows), "int8", waiting=True)
    assert "waiting included" in waiting.layout.xaxis.title.text
    assert len(waiting.data) == 2


def test_attention_over_resolution_marks_where_it_overtakes_the_mlp():
    kinds = [(part, kind) for part in ("attention", "mlp") for kind in ("measured", "fitted")]
    rows = [(size, *kind, size / 100) for size in (224, 384) for kind in kinds]
    figure = figures.attention_cost(table("image_size part kind ms", *rows), crossover=512)
    assert trace(figure, "attention, measured").mode == "markers"
    assert trace(figure, "mlp, fitted").mode == "lines"
    assert {one.name for one in figure.data if one.showlegend} == {"attention, fitted", "mlp, fitted"}
    assert figure.layout.shapes[0].x0 == 512
    assert "512 px" in figure.layout.annotations[0].text


def test_the_chosen_size_is_marked_in_pixels_and_tokens():
    rows = [("attention", "predicted", 224, 1.0), ("attention", "predicted", 384, 4.0)]
    figure = figures.attention_cost(table("part kind image_size ms", *rows), crossover=627)
    figures.marked_size(figure, 384, 577)
    assert [shape.x0 for shape in figure.layout.shapes] == [627, 384]
    assert figure.layout.annotations[1].text == "384 px, 577 tokens"


def test_the_slope_of_a_cache_is_dotted_and_steeper_and_left_out_where_it_is_not_known():
    points = table("label precision intensity gflops", ("rest", "fp32", 2.0, 60.0))
    columns = "label precision peak_gflops bandwidth_gb_s cache_gb_s"
    figure = figures.roofline(points, table(columns, ("this CPU", "fp32", 100.0, 20.0, 50.0)))
    cache, memory = (one for one in figure.data if one.name == "this CPU")
    assert (cache.line.dash, cache.x[1], memory.line.dash, memory.x[1]) == ("dot", 2, "solid", 5)
    assert "50 GB/s from a cache" in figure.layout.annotations[0].text
    figure = figures.roofline(points, table(columns, ("this CPU", "fp32", 100.0, 20.0, float("nan"))))
    assert [one.name for one in figure.data] == ["this CPU", "rest"]


@pytest.mark.parametrize("gflops", [40.0, 90.0, 250.0])
def test_a_roof_bends_where_bandwidth_meets_the_peak_and_every_point_is_shown(gflops):
    points = table("label precision intensity gflops", ("fc1", "fp32", 50.0, gflops))
    roofs = table("label precision peak_gflops bandwidth_gb_s", ("this CPU", "fp32", 100.0, 20.0))
    figure = figures.roofline(points, roofs)
    roof = trace(figure, "this CPU")
    assert roof.x[1] == 5  # FLOP/byte
    assert roof.y[1] == roof.y[2] == 100
    assert roof.y[0] == pytest.approx(20 * roof.x[0])
    assert trace(figure, "fc1").y[0] == gflops
    low, high = (10**edge for edge in figure.layout.yaxis.range)
    assert low <= 10
    assert high > max(gflops, 100)


def test_a_waterfall_leads_from_one_total_to_the_other():
    steps = ["FP16", "products", "reformats", "INT8"]
    kinds = ["total", "change", "change", "total"]
    figure = figures.waterfall(table("step kind ms", *zip(steps, kinds, (10.0, -3.0, 4.0, 11.0))), "why")
    bars = figure.data[0]
    assert list(bars.measure) == ["absolute", "relative", "relative", "absolute"]
    assert list(bars.text) == ["10", "-3", "+4", "11"]
    assert bars.hovertext[1] == "products<br>-3 ms"
    assert list(figure.layout.xaxis.ticktext) == steps
    name = "onnxruntime int8 tensorrt attention"  # of both engines
    rows = [(name, "total", 3.0), ("products", "change", -1.0), (name, "total", 2.0)]
    figure = figures.waterfall(table("step kind ms", *rows), "why")
    assert len(set(figure.data[0].x)) == 3
    assert figure.layout.xaxis.ticktext[0] == "onnxruntime<br>int8<br>tensorrt<br>attention"


def test_a_heat_map_keeps_the_order_of_blocks_and_roles_and_leaves_gaps_empty():
    rows = [("block00", "qkv", 0.1), ("block00", "fc1", 0.2), ("block01", "qkv", 0.3)]
    figure = figures.heat_map(table("block role drop", *rows), "drop", "map", unit="points")
    cells = figure.data[0]
    assert list(cells.x) == ["qkv", "fc1"]
    assert list(cells.y) == ["block00", "block01"]
    assert np.isnan(cells.z[1][1])
    assert cells.text[1][1] == ""
    assert "points" in cells.colorbar.title.text


def test_ranges_draw_the_histogram_and_both_ends_of_every_method():
    bins = pd.DataFrame({"tensor": "t", "left": [-1.0, 0.0], "right": [0.0, 1.0], "count": [3, 5]})
    limits = table("tensor method limit", ("t", "minmax", 1.0), ("t", "entropy", 0.7))
    figure = figures.ranges(bins, limits)
    assert list(figure.data[0].y) == [3, 5]
    assert sorted(shape.x0 for shape in figure.layout.shapes) == [-1.0, -0.7, 0.7, 1.0]
    assert any("entropy ±0.7" in a.text for a in figure.layout.annotations)


def test_the_band_of_a_fitted_line_is_drawn_behind_it_and_ends_at_zero():
    rows = [(64, "mlp", "fitted", 1.0, -0.5, 2.0), (96, "mlp", "fitted", 2.0, 1.5, 2.5)]
    band, line = figures.attention_cost(table("image_size part kind ms low high", *rows)).data
    assert list(band.x) == [64, 96, 96, 64]
    assert list(band.y) == [2.0, 2.5, 1.5, 0.0]
    assert list(line.y) == [1.0, 2.0]
    assert band.mode == "lines"  # no marks on its edge


def test_views_share_one_map_and_a_button_shows_one_of_them():
    time = pd.DataFrame({"block": ["block00", "block01"], "role": ["qkv", "fc1"], "ms": [1.0, 2.0]})
    types = pd.DataFrame({"block": ["block01"], "role": ["qkv"], "computes": ["int8"]})
    views = {"time": figures.View(time, "ms", "ms", "lower"), "precision": figures.View(types, "computes")}
    figure = figures.block_views(views)
    assert [trace.visible for trace in figure.data] == [True, False]
    assert all(list(trace.x) == ["qkv", "fc1"] and list(trace.y) == ["block00", "block01"] for trace in figure.data)
    assert figure.data[1].text[1][0] == "int8"
    shown = [button.args[0]["visible"] for button in figure.layout.updatemenus[0].buttons]
    assert shown == [[True, False], [False, True]]
    codes = figure.data[1].z
    share = (codes[1][0] + 0.5) / len([*COLOURS, "other"])
    colours = [colour for edge, colour in figure.data[1].colorscale if edge <= share]
    assert colours[-1] == COLOURS["int8"]


INTERVALS = "end_s active engine original median_ms p99_ms answered failed"


def test_the_timeline_of_a_service_stacks_what_both_models_answered_and_marks_the_change():
    rows = (0.25, "engine", 40.0, 0.0, 5.0, 8.0, 10, 0), (0.5, "original", 8.0, 12.0, 9.0, 20.0, 5, 1)
    figure = figures.service_timeline(table(INTERVALS, *rows))
    engine, original = trace(figure, "by the engine"), trace(figure, "by the original")
    assert (list(engine.y), list(original.y)) == ([40, 40, 8], [0, 0, 12])
    assert engine.stackgroup == original.stackgroup
    assert list(trace(figure, "p99 of a request").y) == [8, 20]
    assert [(line.x0, note.text) for line, note in zip(figure.layout.shapes, figure.layout.annotations)] == [
        (0.5, "original from here")
    ]
    assert "15 requests answered, 1 not" in figure.layout.title.text


def test_the_timeline_of_a_service_that_never_changed_has_no_mark():
    figure = figures.service_timeline(table(INTERVALS, (0.25, "engine", 40.0, 0.0, 5.0, 8.0, 10, 0)))
    assert not figure.layout.shapes
