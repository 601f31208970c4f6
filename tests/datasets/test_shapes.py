"""Generated shapes: pure functions of (seed, split, index, size), balanced, in splits that share nothing."""

import hashlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from workbench.datasets import shapes
from workbench.datasets.splits import SPLITS
from workbench.errors import WorkbenchError


def test_there_are_sixteen_classes_with_readable_names():
    assert len(shapes.CLASSES) == len(set(shapes.CLASSES)) == 16
    assert "striped triangle" in shapes.CLASSES


@pytest.mark.parametrize("size", [32, 96, 100])
def test_images_have_the_asked_size_and_type(size):
    pixels, labels = shapes.generate(range(3), size=size)
    assert (pixels.shape, pixels.dtype) == ((3, size, size, 3), np.uint8)
    assert (labels.tolist(), labels.dtype) == ([0, 1, 2], np.int64)


def test_an_image_is_the_same_whatever_is_drawn_before_or_beside_it():
    together, labels = shapes.generate(range(40))
    backwards, labels_backwards = shapes.generate(reversed(range(40)))
    np.testing.assert_array_equal(together, backwards[::-1])
    np.testing.assert_array_equal(labels, labels_backwards[::-1])
    alone, _ = shapes.generate([23])
    np.testing.assert_array_equal(together[23], alone[0])


def test_another_process_draws_the_same_images():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pixels, labels = pool.submit(shapes.generate, range(8), split="evaluation", seed=3).result()
    expected, expected_labels = shapes.generate(range(8), split="evaluation", seed=3)
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(labels, expected_labels)


def test_any_run_of_sixteen_images_has_every_class_once():
    _, labels = shapes.generate(range(1_000_005, 1_000_021))
    assert sorted(labels) == list(range(16))


def test_no_image_occurs_twice_in_one_split_or_in_two():
    drawn = [shapes.generate(range(200), split=split, size=32)[0] for split in SPLITS]
    sums = {hashlib.sha256(image.tobytes()).digest() for pixels in drawn for image in pixels}
    assert len(sums) == 600


def test_another_seed_gives_other_images():
    assert not np.array_equal(shapes.generate(range(4), seed=0)[0], shapes.generate(range(4), seed=1)[0])


def test_the_same_index_shows_the_same_scene_at_every_size():
    small, _ = shapes.generate(range(64), size=48)
    large, _ = shapes.generate(range(64), size=96)
    halved = large.reshape(64, 48, 2, 48, 2, 3).mean((2, 4)).reshape(64, -1)
    small = small.reshape(64, -1).astype(float)
    same = [np.corrcoef(a, b)[0, 1] for a, b in zip(small, halved)]
    other = [np.corrcoef(a, b)[0, 1] for a, b in zip(small, np.roll(halved, 16, axis=0))]  # same class, other scene
    assert np.median(same) > 0.9 > 0.5 > np.median(other)


def test_textures_have_two_tones_where_nothing_hides_them(monkeypatch):
    calm = shapes.Strength(0.0, 0.0, 1.0)
    for name in ("FAINTNESS", "FLATNESS", "NOISE", "COVER", "DIMNESS", "SLOPE"):
        monkeypatch.setattr(shapes, name, calm)
    monkeypatch.setattr(shapes, "CLUTTER", 0)
    monkeypatch.setattr(shapes, "BARS", 0)
    pixels, labels = shapes.generate(range(320))
    edges = np.abs(np.diff(pixels.astype(float).mean(3), axis=2)).mean((1, 2))
    texture = labels % 4
    plain = edges[texture == 0].mean()
    assert all(edges[texture == t].mean() > 2 * plain for t in (1, 2, 3))


def test_all_shapes_have_about_the_same_area_so_that_area_does_not_reveal_the_class():
    x, y = np.meshgrid(np.linspace(-2, 2, 401), np.linspace(-2, 2, 401))
    x, y = x.astype(np.float32), y.astype(np.float32)
    areas = [(shapes._distance(shape, x, y, shapes._CORNER[shape]) < 0).mean() * 16 for shape in shapes.SHAPES]
    # pi r^2; n r^2 sin(2 pi / n) / 2; and n r s sin(pi / n) for a star with inner radius s
    by_hand = [
        np.pi * 0.80**2,
        3 / 2 * 1.24**2 * np.sin(2 * np.pi / 3),
        4 / 2 * 1.00**2,
        5 * 1.23**2 * 0.45 * np.sin(np.pi / 5),
    ]
    np.testing.assert_allclose(areas, by_hand, rtol=0.02)
    np.testing.assert_allclose(areas, 2.0, rtol=0.02)


@pytest.mark.parametrize("wrong", [{"split": "test"}, {"seed": -1}, {"size": 4}, {"indices": [-1]}])
def test_an_impossible_argument_is_refused(wrong):
    with pytest.raises(WorkbenchError):
        shapes.generate(**{"indices": [0], **wrong})
