"""An ``ImageSet`` checks its arrays and has a digest of them."""

import dataclasses

import numpy as np
import pytest

import workbench as wb
from workbench.errors import WorkbenchError

PETS = wb.ImageSet(
    pixels=np.zeros((2, 8, 8, 3), np.uint8),
    labels=np.array([0, 1]),
    classes=("cat", "dog"),
    name="pets",
    preprocessing=wb.Preprocessing(size=8),
)


def test_the_digest_depends_on_pixels_and_labels_alone():
    others = [{"pixels": PETS.pixels + 1}, {"labels": PETS.labels[::-1]}]
    digests = {dataclasses.replace(PETS, **change).digest for change in [{}, *others]}
    assert len(digests) == 3
    assert dataclasses.replace(PETS, name="other").digest == PETS.digest


@pytest.mark.parametrize(
    "wrong",
    [
        {"pixels": np.zeros((2, 8, 8, 3), np.float32)},
        {"pixels": np.zeros((0, 8, 8, 3), np.uint8), "labels": np.zeros(0, np.int64)},
        {"labels": np.zeros(3, np.int64)},
        {"labels": np.zeros(2, np.int32)},
        {"labels": [0, 0]},
        {"labels": np.array([0, 2])},
        {"labels": np.array([0, -1])},
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(wrong):
    with pytest.raises(WorkbenchError):
        dataclasses.replace(PETS, **wrong)
