"""Generated shapes: pure functions of (seed, split, index, size), balanced, in splits that share nothing."""

import hashlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from workbench.datasets import shapes
from workbench.datasets.splits import SPLITS
from workbench.errors import WorkbenchError


def test_an_image_depends_on_nothing_but_its_seed_split_index_and_size():
    together, labels = shapes.generate(range(40), split="evaluation", seed=3)
    assert (together.shape, together.dtype, labels.dtype) == ((40, 96, 96, 3), np.uint8, np.int64)
    backwards, _ = shapes.generate(reversed(range(40)), split="evaluation", seed=3)
    np.testing.assert_array_equal(together, backwards[::-1])
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        elsewhere, labels = pool.submit(shapes.generate, [23], split="evaluation", seed=3).result()
    np.testing.assert_array_equal(together[23], elsewhere[0])
    assert labels.tolist() == [23 % 16]


def test_any_run_of_sixteen_images_has_every_class_once():
    _, labels = shapes.generate(range(1_000_005, 1_000_021), size=32)
    assert sorted(labels) == list(range(16))
    assert len(set(shapes.CLASSES)) == 16
    assert "striped triangle" in shapes.CLASSES


def test_no_image_occurs_twice_in_one_split_in_two_splits_or_with_two_seeds():
    drawn = [shapes.generate(range(150), split=split, seed=seed, size=32)[0] for split in SPLITS for seed in (0, 1)]
    sums = {hashlib.sha256(image.tobytes()).digest() for pixels in drawn for image in pixels}
    assert len(sums) == 150 * len(SPLITS) * 2


def test_the_same_index_shows_the_same_scene_at_every_size():
    small, _ = shapes.generate(range(64), size=48)
    large, _ = shapes.generate(range(64), size=96)
    halved = large.reshape(64, 48, 2, 48, 2, 3).mean((2, 4)).reshape(64, -1)
    small = small.reshape(64, -1).astype(float)
    same = [np.corrcoef(a, b)[0, 1] for a, b in zip(small, halved)]
    other = [np.corrcoef(a, b)[0, 1] for a, b in zip(small, np.roll(halved, 16, axis=0))]  # same class, other scene
    assert np.median(same) > 0.9 > 0.5 > np.median(other)


def test_textures_have_two_tones_where_nothing_hides_them(monkeypatch):
    for name in ("FAINTNESS", "FLATNESS", "NOISE", "COVER", "DIMNESS", "SLOPE"):
        monkeypatch.setattr(shapes, name, shapes.Strength(0.0, 0.0, 1.0))
    monkeypatch.setattr(shapes, "CLUTTER", 0)
    monkeypatch.setattr(shapes, "BARS", 0)
    pixels, labels = shapes.generate(range(320))
    edges = np.abs(np.diff(pixels.astype(float).mean(3), axis=2)).mean((1, 2))
    by_texture = [edges[labels % 4 == texture].mean() for texture in range(4)]
    assert min(by_texture[1:]) > 2 * by_texture[0]  # the first is plain


def test_all_shapes_have_about_the_same_area_so_that_area_does_not_reveal_the_class():
    x, y = np.meshgrid(np.linspace(-2, 2, 401), np.linspace(-2, 2, 401))
    x, y = x.astype(np.float32), y.astype(np.float32)
    areas = [(shapes._distance(shape, x, y, shapes._CORNER[shape]) < 0).mean() * 16 for shape in shapes.SHAPES]
    # pi r^2; n r^2 sin(2 pi / n) / 2; and n r s sin(pi / n) for a star with inner radius s
    triangle, star = 3 / 2 * 1.24**2 * np.sin(2 * np.pi / 3), 5 * 1.23**2 * 0.45 * np.sin(np.pi / 5)
    np.testing.assert_allclose(areas, [np.pi * 0.80**2, triangle, 4 / 2 * 1.00**2, star], rtol=0.02)
    np.testing.assert_allclose(areas, 2.0, rtol=0.02)


@pytest.mark.parametrize("wrong", [{"split": "test"}, {"seed": -1}, {"size": 4}, {"indices": [-1]}])
def test_an_impossible_argument_is_refused(wrong):
    with pytest.raises(WorkbenchError):
        shapes.generate(**{"indices": [0], **wrong})
