"""What every session checks before it computes."""

import numpy as np
import pytest

from workbench.backends.base import Tensor, check_feeds
from workbench.errors import WorkbenchError


def images(dtype, shape=(3, 2, 2)):
    return {"images": Tensor(shape=(None, *shape), dtype=np.dtype(dtype))}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_counted(bad):
    value = np.zeros((4, 3, 2, 2), np.float32)
    value[2, 1, 0, 1] = bad
    with pytest.raises(WorkbenchError, match="1 of its 48 numbers"):
        check_feeds({"images": value}, images("float32"))


def test_finite_numbers_pass_though_their_sum_is_infinite():
    check_feeds({"images": np.full((4, 3, 2, 2), 3e38, np.float32)}, images("float32"))


def test_whole_numbers_are_not_searched_for_nan(monkeypatch):
    monkeypatch.setattr(np, "isfinite", None)  # a search costs more than a call on the GPU
    check_feeds({"images": np.zeros((4, 3, 2, 2), np.uint8)}, images("uint8"))
