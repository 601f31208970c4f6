"""Images on another scale than their model's are noticed, and the right one is named."""

import numpy as np
import pytest

from workbench.datasets import preprocessing
from workbench.datasets.input_range import from_unit_scale, other_readings, unit_scale_note, unusual_range
from workbench.records import Preprocessing

TORCH = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 3)).astype(np.float32)


def normalised(pixels, record):
    return (pixels - np.float32(record.mean)) / np.float32(record.std)


@pytest.mark.parametrize("record", [preprocessing.vit_jax(6), preprocessing.deit(6), preprocessing.augreg(6)])
def test_images_as_published_models_take_them_are_usual(record):
    assert unusual_range(normalised(PIXELS, record)) == ""
    assert unit_scale_note(record) == ""


def test_mean_and_std_of_torch_become_those_that_are_published_for_pixels_of_255():
    found = from_unit_scale(Preprocessing(6, mean=TORCH[0], std=TORCH[1]))
    assert found.mean == pytest.approx((123.675, 116.28, 103.53))  # 255 x 0.485 ...
    assert found.std == pytest.approx((58.395, 57.12, 57.375))


@pytest.mark.parametrize(
    ("given", "record", "mistake"),
    [
        (normalised(PIXELS, Preprocessing(6, mean=TORCH[0], std=TORCH[1])), TORCH, "0…1 scale"),
        (PIXELS, None, "not normalised"),
        (normalised(PIXELS / 255, Preprocessing(6)), None, "taken for 0…255"),
    ],
    ids=["torch's mean and std", "pixels", "floats of 0 to 1"],
)
def test_each_mistake_is_named_and_undone(given, record, mistake):
    used = Preprocessing(6, mean=record[0], std=record[1]) if record else Preprocessing(6)
    assert unusual_range(given)
    (reading,) = other_readings(given, used)
    assert mistake in reading.mistake
    right = from_unit_scale(used) if record else used
    np.testing.assert_allclose(reading.images, normalised(PIXELS, right), atol=1e-3)


def test_values_that_no_usual_mistake_explains_have_no_other_reading():
    assert unusual_range(1e6 * PIXELS)
    assert list(other_readings(1e6 * (PIXELS - 100), Preprocessing(6))) == []
