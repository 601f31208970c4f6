"""What calibration gathers of a graph's activations, and the images that it gathers it from."""

import dataclasses

import numpy as np
import pytest

import workbench as wb
from tests.graphs.drawn import TINY, draw
from tests.graphs.onnx_file import tensors
from workbench.errors import Cancelled, WorkbenchError
from workbench.graphs.quantization import ranges as module
from workbench.graphs.quantization.images import Images, calibration_images, in_batches
from workbench.graphs.quantization.ranges import calibrate
from workbench.progress import silent
from workbench.records import METHODS


@pytest.fixture(scope="module")
def ranges(drawn, pictures, shelf):
    return calibrate(drawn, pictures, shelf, scope="attention")


@pytest.mark.parametrize("tensor", ["block00/norm1:out", "block02/mlp/gelu:out", "block01/attention/softmax:out"])
def test_extremes_and_histogram_are_those_of_all_images_at_once(drawn, pictures, ranges, tensor):
    (values,), row = tensors(drawn.path, pictures, tensor), ranges.by_tensor[tensor]
    assert row.low == pytest.approx(values.min(), rel=1e-4, abs=1e-6)
    assert row.high == pytest.approx(values.max(), rel=1e-4)
    edges, counts = ranges.histogram(tensor)
    assert counts.sum() == values.size
    expected, _ = np.histogram(values, edges)
    assert np.abs(counts - expected).sum() <= 1e-3 * values.size  # runtimes differ in the last bit


def test_bins_and_limits_are_what_the_plot_takes(ranges):
    from workbench.reporting import figures

    names = ["block00/norm1:out", "block01/attention/softmax:out"]
    bins, limits = ranges.bins(names), ranges.limits(names)
    for tensor in names:
        edges, counts = ranges.histogram(tensor)
        mine = bins[bins["tensor"] == tensor]
        np.testing.assert_array_equal(
            mine[["left", "right", "count"]], np.stack([edges[:-1], edges[1:], counts], 1)
        )
        of = limits[limits["tensor"] == tensor].set_index("method")["limit"]
        row = ranges.by_tensor[tensor]
        assert dict(of) == {method: row.threshold(method) for method in METHODS}
    assert set(limits["tensor"]) == set(names)
    assert len(figures.ranges(bins, limits).data) >= len(names)


def test_linear_reads_four_tensors_a_block_attention_five_more_and_each_has_every_method(
    drawn, pictures, shelf, ranges
):
    linear = calibrate(drawn, pictures, shelf)
    assert [row.place for row in linear.rows] == [
        f"block{i:02d}/{role}" for i in range(TINY.depth) for role in ("qkv", "proj", "fc1", "fc2")
    ]
    frame = ranges.frame()
    assert len(ranges.rows) == len(frame) == 9 * TINY.depth
    assert sum(row.probabilities for row in ranges.rows) == TINY.depth
    limits = frame[["percentile", "entropy", "mse", "minmax"]]
    assert (limits > 0).all().all()
    assert limits.le(frame.minmax * (1 + 1e-6), axis=0).all().all()


def test_only_other_images_and_new_tensors_of_a_wider_scope_run_the_model_again(
    drawn, pictures, tmp_path, monkeypatch
):
    first, opened = calibrate(drawn, pictures, tmp_path), []

    def counting(model, outputs):
        opened.append(outputs)
        return original(model, outputs)

    original = module.open_model
    monkeypatch.setattr(module, "open_model", counting)
    assert calibrate(drawn, pictures, tmp_path) == first
    assert not opened
    calibrate(drawn, pictures, tmp_path, scope="attention")
    assert len(opened) == 1
    assert not set(opened[0]) & set(first.by_tensor)
    assert calibrate(drawn, pictures[::-1], tmp_path).digest != first.digest


def test_a_static_batch_counts_no_padding(ranges, pictures, tmp_path):
    static = calibrate(draw(tmp_path, batch=5), pictures, tmp_path, scope="attention")
    for tensor in ranges.by_tensor:
        assert static.histogram(tensor)[1].sum() == ranges.histogram(tensor)[1].sum()


def test_images_of_a_data_set_are_loaded_at_the_size_of_the_graph(drawn, tmp_path):
    ranges = calibrate(drawn, wb.Calibration("shapes", samples=6), tmp_path)
    assert ranges.images == 6
    same = wb.images("shapes", split="calibration", count=6, size=TINY.image_size)
    assert calibrate(drawn, same.x, tmp_path) == ranges


def test_images_that_are_channels_first_go_into_a_graph_that_wants_them(drawn, pictures, tmp_path):
    preprocessing = dataclasses.replace(drawn.preprocessing, layout="NCHW")
    graph = dataclasses.replace(drawn, preprocessing=preprocessing)
    (turned,) = calibration_images(graph, pictures, silent).parts()
    np.testing.assert_array_equal(turned, pictures.transpose(0, 3, 1, 2))
    (as_given,) = calibration_images(graph, turned, silent).parts()
    np.testing.assert_array_equal(as_given, turned)


@pytest.mark.parametrize("variant", ["plain", "noisy", "one-class"])
def test_a_data_set_is_read_a_few_images_at_a_time_and_has_the_digest_of_the_whole(drawn, variant):
    asked = wb.Calibration("shapes", samples=150, variant=variant, seed=3)
    found = calibration_images(drawn, asked, silent)
    whole = wb.images("shapes", "calibration", 150, seed=3, size=TINY.image_size, variant=variant).x
    parts = list(found.parts())
    assert max(map(len, parts)) <= 64
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert found.digest == Images.of(whole).digest
    assert found.digest != Images.of(whole[::-1]).digest


@pytest.mark.parametrize("cuts", [[], [1], [3, 4, 9], [5, 10, 15, 20]])
def test_batches_do_not_depend_on_how_images_come(cuts):
    images = np.arange(23, dtype=np.float32)
    come = Images(23, lambda: np.split(images, cuts), "digest")
    batches = list(in_batches(come, 5))
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
    np.testing.assert_array_equal(np.concatenate(batches), images)


def test_constant_images_have_ranges(drawn, tmp_path):
    ranges = calibrate(drawn, np.zeros((4, 16, 16, 3), np.float32), tmp_path, scope="everything")
    assert all(np.isfinite([row.low, row.high, row.entropy, row.mse]).all() for row in ranges.rows)
    assert ranges.by_tensor["embedding/layout:out"].minmax == 0


def few(folder):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (8, 16, 16, 3), np.uint8)
    np.savez(folder / "few.npz", images=pixels, labels=np.zeros(8, np.int64))
    return wb.Calibration(dataset=str(folder / "few.npz"), samples=50)


@pytest.mark.parametrize(
    ("images", "word"),
    [
        (np.zeros((0, 16, 16, 3), np.float32), "no images"),
        (np.zeros((4, 15, 16, 3), np.float32), "16, 16, 3"),
        (np.zeros((4, 16, 16, 3), np.float64), "float32"),
        (np.zeros((4, 16, 16, 3), np.uint8), "normalise"),
        (np.full((4, 16, 16, 3), np.nan, np.float32), "NaN"),
        ([[1.0]], "array"),
        (few, "50"),
    ],
)
def test_images_that_do_not_fit_or_are_too_few_are_refused(drawn, tmp_path, images, word):
    with pytest.raises(WorkbenchError, match=word):
        calibrate(drawn, images(tmp_path) if callable(images) else images, tmp_path)
    assert not list(tmp_path.rglob("record.json"))


def test_nan_in_an_activation_is_refused_by_its_name(tmp_path, pictures):
    def spoil(weights):
        weights["block01/mlp/fc1/bias_value"][3] = np.nan

    graph = draw(tmp_path, edit=spoil)
    with pytest.raises(WorkbenchError, match=r"block01/mlp/gelu:out holds NaN"):
        calibrate(graph, pictures, tmp_path / "workspace")
    assert not list((tmp_path / "workspace").rglob("*.npz"))


def test_progress_counts_images_and_cancelling_leaves_nothing_half_done(drawn, pictures, tmp_path):
    seen = []

    def cancel(stage, done, total):
        if stage == "calibrate" and done >= 8:
            raise Cancelled

    with pytest.raises(Cancelled):
        calibrate(drawn, pictures, tmp_path, progress=cancel)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    assert calibrate(drawn, pictures, tmp_path, progress=lambda *event: seen.append(event)).images == len(pictures)
    assert (seen[0], seen[-1]) == (("calibrate", 0, 24), ("calibrate", 24, 24))
