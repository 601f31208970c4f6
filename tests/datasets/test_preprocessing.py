"""Resize, crop and normalise, against figures from the publishers and pixels counted by hand."""

import re

import numpy as np
import pytest
from PIL import Image

from workbench.datasets import preprocessing
from workbench.datasets.preprocessing import normalise, prepare
from workbench.errors import WorkbenchError
from workbench.records import Preprocessing


def test_normalise_maps_black_and_white_to_minus_one_and_one():
    x = normalise(np.array([[[[0, 255, 51]]]], np.uint8))
    np.testing.assert_allclose(x, [[[[-1, 1, -0.6]]]], rtol=1e-6)
    assert x.dtype == np.float32


def test_normalise_with_imagenets_figures_gives_torchs_values_in_nchw():
    black_and_white = np.stack([np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)])
    x = normalise(black_and_white, preprocessing.torchvision(4, resize=4))
    assert (x.shape, x.dtype, x.flags.c_contiguous) == ((2, 3, 4, 4), np.float32, True)
    # (0 - 0.485) / 0.229 and (1 - 0.485) / 0.229, and so on for green and blue
    np.testing.assert_allclose(x[0, :, 0, 0], [-2.117904, -2.035714, -1.804444], atol=1e-5)
    np.testing.assert_allclose(x[1, :, 0, 0], [2.248908, 2.428571, 2.640000], atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 8, 8, 4), (1, 3, 8, 8), (0, 8, 8, 3), (1, 0, 8, 3)])
def test_an_array_of_another_shape_than_a_batch_of_rgb_images_is_refused(shape):
    with pytest.raises(WorkbenchError, match=re.escape(str(shape))):
        normalise(np.zeros(shape, np.uint8))


def test_values_of_another_type_or_images_of_another_size_are_refused():
    for wrong in (np.zeros((1, 8, 8, 3), np.float32), [[[[0, 0, 0]]]]):
        with pytest.raises(WorkbenchError, match="uint8"):
            normalise(wrong)
    with pytest.raises(WorkbenchError, match="8 x 8"):
        normalise(np.zeros((1, 8, 8, 3), np.uint8), Preprocessing(size=16))


def _numbered(height: int, width: int) -> np.ndarray:
    """Pixels whose red is the row and whose green is the column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)


def test_the_centre_is_cut_out_when_nothing_is_resized():
    cut = prepare(_numbered(10, 10), Preprocessing(size=4, resize=10))
    assert (cut[0, 0].tolist(), cut[-1, -1].tolist()) == ([3, 3, 0], [6, 6, 0])


@pytest.mark.parametrize(("height", "width"), [(8, 16), (16, 8)])
def test_the_shorter_edge_is_fitted_and_the_longer_one_cut(height, width):
    record = Preprocessing(size=8, resize=8, keep_aspect=True)
    cut = prepare(_numbered(height, width), record)
    assert cut.shape == (8, 8, 3)
    assert cut[0, 0].tolist() == [max(0, height - 8) // 2, max(0, width - 8) // 2, 0]


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_without_keeping_the_aspect_both_edges_are_resized_by_pillows_own_filters(name):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (17, 23, 3), np.uint8))
    expected = np.asarray(image.resize((9, 9), getattr(Image.Resampling, name.upper())))
    np.testing.assert_array_equal(prepare(image, Preprocessing(size=9, interpolation=name)), expected)


def test_exif_orientation_turns_the_image_upright(tmp_path):
    image = Image.fromarray(_numbered(4, 4))
    exif = image.getexif()
    exif[0x0112] = 6  # "rotate 90 degrees clockwise to show upright"
    image.save(tmp_path / "turned.png", exif=exif)
    upright = prepare(Image.open(tmp_path / "turned.png"), Preprocessing(size=4))
    np.testing.assert_array_equal(upright, np.rot90(_numbered(4, 4), -1))


@pytest.mark.parametrize(("mode", "pixel", "expected"), [
    ("L", 80, [80, 80, 80]),
    ("1", 1, [255, 255, 255]),
    ("RGBA", (1, 2, 3, 128), [1, 2, 3]),
    ("I;16", 0x8012, [128, 128, 128]),
    ("CMYK", (0, 255, 255, 0), [255, 0, 0]),
])  # fmt: skip
def test_other_modes_become_rgb(mode, pixel, expected):
    assert prepare(Image.new(mode, (4, 4), pixel), Preprocessing(size=4))[0, 0].tolist() == expected


def test_presets_have_the_sizes_and_filters_of_the_publishers():
    assert preprocessing.vit_jax(384) == Preprocessing(size=384, antialias=False)
    assert preprocessing.augreg(224).resize == 248  # floor(224 / 0.9), as timm prints it
    assert preprocessing.augreg(384).resize == 384
    assert preprocessing.deit(224).resize == preprocessing.torchvision(224).resize == 256
    assert preprocessing.deit(384).resize == 438  # int(256 / 224 * 384)
    assert preprocessing.torchvision().interpolation == "bilinear"
    assert preprocessing.deit().interpolation == preprocessing.augreg().interpolation == "bicubic"


def _tensorflows(pixels: np.ndarray, edge: int) -> np.ndarray:
    """Bilinear between pixel centres at halves, by its definition (tf.image.resize, antialias=False)."""
    height, width = pixels.shape[:2]
    out = np.empty((edge, edge, 3))
    for row in range(edge):
        for column in range(edge):
            y, x = (row + 0.5) * height / edge - 0.5, (column + 0.5) * width / edge - 0.5
            top, left = int(np.floor(y)), int(np.floor(x))
            corners = pixels[
                np.ix_(np.clip([top, top + 1], 0, height - 1), np.clip([left, left + 1], 0, width - 1))
            ]
            weights = np.outer([1 - (y - top), y - top], [1 - (x - left), x - left])
            out[row, column] = (weights[..., None] * corners).sum(axis=(0, 1))
    return out


@pytest.mark.parametrize("shape", [(64, 100), (5, 3), (16, 16)])
def test_vit_jax_resizes_as_tensorflow_does_within_one_level(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    ours = prepare(Image.fromarray(pixels), preprocessing.vit_jax(16))
    assert np.abs(ours - _tensorflows(pixels, 16)).max() <= 0.5 + 1e-3  # rounded to whole levels


def test_nearest_without_antialiasing_takes_the_pixel_under_the_centre():
    pixels = _numbered(6, 6)
    found = prepare(pixels, Preprocessing(3, interpolation="nearest", antialias=False))
    assert found[..., 0].tolist() == [[1] * 3, [3] * 3, [5] * 3]


def test_other_filters_need_antialiasing():
    with pytest.raises(WorkbenchError, match="nearest and bilinear"):
        Preprocessing(8, interpolation="bicubic", antialias=False)
