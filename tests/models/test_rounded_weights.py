"""One scale for a whole tensor: few distinct numbers, and only in the dense layers of blocks."""

import numpy as np
import pytest
from flax import traverse_util

from tests.graphs.drawn import TINY
from workbench.models.rounded_weights import with_rounded_weights
from workbench.models.vit import init


@pytest.mark.parametrize(("kind", "steps"), [("int4", 7), ("int8", 127)])
def test_each_kernel_of_a_block_becomes_whole_steps_of_its_largest_weight(kind, steps):
    params = init(TINY)
    before, after = (
        traverse_util.flatten_dict(tree, sep="/")
        for tree in (params, with_rounded_weights(TINY, params, kind=kind))
    )
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert len(changed) == 6 * TINY.depth
    assert all("encoderblock_" in name and name.endswith("/kernel") for name in changed)
    for name in changed:
        step = np.abs(before[name]).max() / steps
        counts = np.asarray(after[name]) / step
        np.testing.assert_allclose(counts, np.rint(counts), atol=1e-4)
        assert np.abs(after[name] - before[name]).max() <= step * 0.5001


def test_a_tensor_of_zeros_stays_zero():
    params = init(TINY)
    kernel = params["Transformer"]["encoderblock_0"]["MlpBlock_0"]["Dense_0"]
    kernel["kernel"] = np.zeros_like(kernel["kernel"])
    rounded = with_rounded_weights(TINY, params)["Transformer"]["encoderblock_0"]["MlpBlock_0"]["Dense_0"]
    assert not rounded["kernel"].any()
