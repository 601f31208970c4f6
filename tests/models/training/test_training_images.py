import dataclasses

import numpy as np
import pytest

import workbench as wb
from workbench.datasets import shapes
from workbench.models import training
from workbench.models.training import images

TINY = wb.ModelSpec("tiny", image_size=16, patch=8, width=16, depth=1, heads=1, mlp=32, classes=16)
PLAN = training.Plan(TINY, images=64, epochs=6, batch=16, steps_per_call=4)


def test_a_cancelled_drawing_leaves_no_images_behind(tmp_path):
    def stop(stage, done, total):
        raise wb.Cancelled

    with pytest.raises(wb.Cancelled):
        training.train(PLAN, tmp_path, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_pool_of_processes_draws_what_one_process_draws(monkeypatch):
    monkeypatch.setattr(images, "DRAWN_AT_ONCE", 5)
    pixels = np.empty((12, 16, 16, 3), np.uint8)
    labels = images.draw("calibration", 3, pixels)
    expected = shapes.generate(range(12), split="calibration", seed=3, size=16)
    np.testing.assert_array_equal(pixels, expected[0])
    np.testing.assert_array_equal(labels, expected[1])


def test_images_of_a_file_are_those_of_its_training_split_at_the_size_of_the_model(tmp_path):
    rng = np.random.default_rng(0)
    file = tmp_path / "photos.npz"
    np.savez(file, images=rng.integers(0, 256, (200, 24, 24, 3), np.uint8), labels=np.arange(200) % 16)
    pixels, labels = images.training_images(dataclasses.replace(PLAN, data=str(file)), tmp_path)
    expected = wb.images(file, "training", 64, size=16)
    np.testing.assert_array_equal(pixels, expected.pixels)
    np.testing.assert_array_equal(labels, expected.labels)
    spec = dataclasses.replace(TINY, classes=7)
    with pytest.raises(wb.WorkbenchError, match="number of classes"):
        images.training_images(dataclasses.replace(PLAN, data=str(file), spec=spec), tmp_path)
