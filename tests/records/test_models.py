"""The shape of a model and its preprocessing."""

from dataclasses import replace

import numpy as np
import pytest

from workbench.errors import WorkbenchError
from workbench.records import ModelSpec, Preprocessing

SPEC = ModelSpec("S/16", image_size=224, patch=16, width=384, depth=12, heads=6, mlp=1536, classes=1000)


def test_a_spec_knows_its_grid_tokens_and_head_size():
    assert (SPEC.grid, SPEC.tokens, SPEC.head_size) == (14, 197, 64)
    assert replace(SPEC, classifier="gap").tokens == 196


def test_whole_numbers_of_numpy_become_pythons_own():
    assert type(replace(SPEC, depth=np.int64(2)).depth) is int


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: replace(SPEC, image_size=225), "no multiple of the patch of 16"),
        (lambda: replace(SPEC, heads=7), "divides the width"),
        (lambda: replace(SPEC, depth=0), "positive whole number"),
        (lambda: replace(SPEC, depth=12.0), "positive whole number"),
        (lambda: replace(SPEC, depth=True), "positive whole number"),
        (lambda: replace(SPEC, classifier="tok"), "did you mean 'token'"),
        (lambda: replace(SPEC, representation=0), "positive whole number"),
        (lambda: Preprocessing(size=224, resize=200), "crop must fit"),
        (lambda: Preprocessing(size=224, std=(1.0, 0.0, 1.0)), "std above zero"),
        (lambda: Preprocessing(size=224, mean=(1.0, 1.0)), "three numbers"),
        (lambda: Preprocessing(size=224, layout="HWC"), "did you mean 'NHWC'"),
        (lambda: Preprocessing(size=224, interpolation="bicubical"), "did you mean 'bicubic'"),
    ],
)
def test_a_shape_or_a_preprocessing_that_makes_no_sense_is_refused(make, words):
    with pytest.raises(WorkbenchError) as caught:
        make()
    assert words in str(caught.value)
