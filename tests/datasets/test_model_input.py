import numpy as np
import pytest

from tests.tiny import SIZE, some_images
from workbench.datasets.model_input import check_model_input, in_layout
from workbench.errors import WorkbenchError


def test_images_in_a_models_own_layout_come_back_channels_last_and_return_to_it_unchanged():
    last = some_images(2)
    first = in_layout(last, "NCHW")
    assert first.shape == (2, 3, SIZE, SIZE)
    assert first.flags.c_contiguous
    np.testing.assert_array_equal(check_model_input(first, SIZE, "NCHW"), last)
    np.testing.assert_array_equal(check_model_input(last, SIZE, "NCHW"), last)
    assert in_layout(last, "NHWC") is last


def test_channels_first_are_refused_by_a_model_that_takes_them_last():
    with pytest.raises(WorkbenchError, match="do not fit the model"):
        check_model_input(in_layout(some_images(2), "NCHW"), SIZE)
