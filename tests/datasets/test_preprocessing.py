"""Resize, crop and normalise, against figures from the publishers and pixels counted by hand."""

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


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((1, 8, 8, 4), np.uint8),
        np.zeros((1, 3, 8, 8), np.uint8),
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((1, 0, 8, 3), np.uint8),
        [[[[0, 0, 0]]]],
    ],
)
def test_pixels_that_are_not_a_batch_of_rgb_images_are_refused(wrong):
    with pytest.raises(WorkbenchError) as refusal:
        normalise(wrong)
    assert refusal.value.remedy


def test_images_of_another_size_than_the_record_says_are_refused():
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


def test_without_keeping_the_aspect_both_edges_are_resized():
    halves = np.zeros((8, 16, 3), np.uint8)
    halves[:, 8:] = 200
    squeezed = prepare(halves, Preprocessing(size=8, interpolation="nearest"))
    assert squeezed.shape == (8, 8, 3)
    assert (squeezed[:, :4].max(), squeezed[:, 4:].min()) == (0, 200)


def test_each_interpolation_is_pillows_own():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (17, 23, 3), np.uint8))
    for name in ("nearest", "bilinear", "bicubic", "lanczos"):
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
    assert preprocessing.vit_jax(384) == Preprocessing(size=384)
    assert preprocessing.augreg(224).resize == 248  # floor(224 / 0.9), as timm prints it
    assert preprocessing.augreg(384).resize == 384
    assert preprocessing.deit(224).resize == preprocessing.torchvision(224).resize == 256
    assert preprocessing.deit(384).resize == 438  # int(256 / 224 * 384)
    assert preprocessing.torchvision().interpolation == "bilinear"
    assert preprocessing.deit().interpolation == preprocessing.augreg().interpolation == "bicubic"
