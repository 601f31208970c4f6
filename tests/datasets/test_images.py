"""``wb.images`` and ``ImageSet`` on the generated set: the contract, the shifted variants, and bad input."""

import dataclasses
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


def test_the_contract_call_gives_pixels_labels_classes_and_x():
    found = wb.images("shapes", split="evaluation", count=20, seed=0, size=96)
    assert (found.pixels.shape, found.pixels.dtype) == ((20, 96, 96, 3), np.uint8)
    assert (found.labels.shape, found.labels.dtype) == ((20,), np.int64)
    assert (found.x.shape, found.x.dtype) == ((20, 96, 96, 3), np.float32)
    np.testing.assert_array_equal(found.x, wb.normalise(found.pixels))
    assert found.preprocessing.size == 96
    assert found.preprocessing.classes == found.classes
    assert len(found) == 20


def test_a_longer_set_begins_with_the_shorter_one():
    for variant in CORRUPTIONS:
        short = wb.images("shapes", count=3, size=32, variant=variant)
        long = wb.images("shapes", count=70, size=32, variant=variant)
        np.testing.assert_array_equal(short.pixels, long.pixels[:3])
        np.testing.assert_array_equal(short.labels, long.labels[:3])


def test_the_digest_tells_pixels_and_labels_apart_and_is_repeatable():
    found = wb.images("shapes", count=4, size=32)
    assert found.digest == wb.images("shapes", count=4, size=32).digest
    moved = dataclasses.replace(found, labels=np.roll(found.labels, 1))
    dark = wb.images("shapes", count=4, size=32, variant="dark")
    assert len({found.digest, moved.digest, dark.digest}) == 3


def test_shifted_variants_are_what_their_names_say():
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


def test_a_preprocessing_says_size_layout_and_normalisation():
    found = wb.images("shapes", count=2, preprocessing=preprocessing.deit(64))
    assert found.pixels.shape == (2, 64, 64, 3)
    assert found.x.shape == (2, 3, 64, 64)


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
    ],
)
def test_what_is_unknown_or_impossible_is_refused(wrong, says):
    with pytest.raises(WorkbenchError, match=says):
        wb.images(**{"count": 2, **wrong})


def test_progress_can_stop_the_drawing():
    def stop(stage, done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        wb.images("shapes", count=2, size=32, progress=stop)


def test_labels_follow_the_classes_that_the_preprocessing_names():
    backwards = tuple(reversed(wb.images("shapes", count=1, size=32).classes))
    found = wb.images("shapes", count=16, preprocessing=wb.Preprocessing(size=32, classes=backwards))
    assert found.labels.tolist() == list(reversed(range(16)))
    with pytest.raises(WorkbenchError, match="plain circle"):
        wb.images("shapes", count=1, preprocessing=wb.Preprocessing(size=32, classes=("cat", "dog")))


@pytest.mark.parametrize(
    "wrong",
    [
        {"pixels": np.zeros((2, 8, 8, 3), np.float32)},
        {"pixels": np.zeros((2, 8, 8), np.uint8)},
        {"pixels": np.zeros((0, 8, 8, 3), np.uint8), "labels": np.zeros(0, np.int64)},
        {"labels": np.zeros(3, np.int64)},
        {"labels": np.zeros(2, np.int32)},
        {"labels": [0, 0]},
        {"labels": np.array([0, 2])},
        {"labels": np.array([0, -1])},
    ],
)
def test_an_image_set_that_is_none_cannot_be_made(wrong):
    right = {
        "pixels": np.zeros((2, 8, 8, 3), np.uint8),
        "labels": np.zeros(2, np.int64),
        "classes": ("cat", "dog"),
        "name": "pets",
        "preprocessing": wb.Preprocessing(size=8),
    }
    wb.ImageSet(**right)
    with pytest.raises(WorkbenchError):
        wb.ImageSet(**{**right, **wrong})


def test_the_data_sets_need_only_numpy_until_an_image_file_is_read():
    code = "import json, sys, workbench as wb; wb.images(count=1, size=32); print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=os.environ)
    loaded = {name.split(".")[0] for name in json.loads(out.stdout)}
    assert not loaded & {"PIL", "jax", "flax", "onnx", "onnxruntime", "pandas", "scipy", "torch"}
