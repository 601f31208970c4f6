"""``wb.images`` on the generated set: what comes out, corruptions, and refusals."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import workbench as wb
from workbench.datasets import preprocessing
from workbench.errors import Cancelled, WorkbenchError
from workbench.records import CORRUPTIONS


def test_images_gives_pixels_labels_classes_and_normalised_images():
    found = wb.images("shapes", split="evaluation", count=20, seed=0, size=96)
    assert (found.pixels.shape, found.pixels.dtype) == ((20, 96, 96, 3), np.uint8)
    assert (found.labels.shape, found.labels.dtype) == ((20,), np.int64)
    assert (found.x.shape, found.x.dtype) == ((20, 96, 96, 3), np.float32)
    np.testing.assert_array_equal(found.x, wb.normalise(found.pixels))
    assert found.preprocessing.size == 96
    assert found.preprocessing.classes == found.classes
    assert len(found) == 20


@pytest.mark.parametrize("variant", CORRUPTIONS)
def test_a_longer_set_begins_with_the_shorter_one(variant):
    short = wb.images("shapes", count=3, size=32, variant=variant)
    long = wb.images("shapes", count=70, size=32, variant=variant)
    np.testing.assert_array_equal(short.pixels, long.pixels[:3])
    np.testing.assert_array_equal(short.labels, long.labels[:3])


def test_each_corruption_does_what_its_name_says():
    sets = {v: wb.images("shapes", split="calibration", count=64, size=32, variant=v) for v in CORRUPTIONS}
    plain = sets["plain"].pixels.astype(float)
    assert sets["dark"].pixels.mean() < plain.mean() / 4
    added = sets["noisy"].pixels - plain
    assert 20 < added.std() < 50  # 50 before pixels are clipped at 0 and 255
    assert len(set(sets["one-class"].labels)) == 1
    assert len(set(sets["plain"].labels)) == 16
    noise = sets["random-noise"].pixels
    assert abs(noise.mean() - 127.5) < 1
    assert abs(noise.std() - 73.9) < 1  # of a fair die with 256 faces: sqrt((256**2 - 1) / 12)
    assert len({s.name for s in sets.values()}) == 5


def test_a_preprocessing_sets_size_layout_and_labels():
    backwards = tuple(reversed(wb.images("shapes", count=1, size=32).classes))
    record = wb.Preprocessing(size=32, layout="NCHW", classes=backwards)
    found = wb.images("shapes", count=16, preprocessing=record)
    assert found.pixels.shape == (16, 32, 32, 3)
    assert found.x.shape == (16, 3, 32, 32)
    assert found.labels.tolist() == list(reversed(range(16)))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"dataset": "shaps"}, "shapes"),
        ({"split": "test"}, "evaluation"),
        ({"variant": "bright"}, "dark"),
        ({"count": 0}, "1 or more"),
        ({"count": 2.5}, "2.5"),
        ({"seed": -1}, "0 or more"),
        ({"size": 0}, "0"),
        ({"size": 32, "preprocessing": preprocessing.vit_jax(64)}, "64"),
        ({"preprocessing": wb.Preprocessing(size=32, classes=("cat", "dog"))}, "plain circle"),
    ],
)
def test_an_unknown_or_impossible_argument_is_refused(wrong, says):
    with pytest.raises(WorkbenchError, match=says):
        wb.images(**{"count": 2, **wrong})


def test_progress_can_cancel_the_drawing():
    def cancel(stage, done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        wb.images("shapes", count=2, size=32, progress=cancel)


def test_the_generated_set_needs_numpy_alone():
    code = "import json, sys, workbench as wb; wb.images(count=1, size=32); print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=os.environ)
    loaded = {name.split(".")[0] for name in json.loads(out.stdout)}
    assert not loaded & {"PIL", "jax", "flax", "onnx", "onnxruntime", "pandas", "scipy", "torch"}


def test_mean_and_std_on_the_scale_of_torch_are_warned_of_with_the_right_ones():
    torch = wb.Preprocessing(32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    with pytest.warns(UserWarning, match=r"0…1 scale.*mean \(123.67, 116.28, 103.53\)"):
        wb.images("shapes", count=2, preprocessing=torch)
