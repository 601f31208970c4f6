"""One scale for a whole tensor: few distinct numbers, and only in the dense layers of blocks."""

import numpy as np
import pytest

from tests.graphs.drawn import TINY, draw
from tests.graphs.onnx_file import File
from workbench.graphs.quantization.rounded_weights import dense_weights, with_rounded_weights

ROLES = ("qkv", "proj", "fc1", "fc2")


@pytest.mark.parametrize(("kind", "steps"), [("int4", 7), ("int8", 127)])
def test_each_kernel_of_a_block_becomes_whole_steps_of_its_largest_weight(drawn, shelf, kind, steps):
    before, after = dense_weights(drawn), dense_weights(with_rounded_weights(drawn, shelf, kind=kind))
    assert set(before) == {f"block{index:02d}/{role}" for index in range(TINY.depth) for role in ROLES}
    for place, weights in before.items():
        step = np.abs(weights).max() / steps
        counts = after[place] / step
        np.testing.assert_allclose(counts, np.rint(counts), atol=1e-4)
        assert np.abs(after[place] - weights).max() <= step * 0.5001


def test_everything_outside_the_blocks_keeps_its_weights(drawn, shelf):
    before, after = File(drawn.path).weights, File(with_rounded_weights(drawn, shelf).path).weights
    for name in ("embedding/kernel", "head/kernel", "block00/norm1/scale"):
        np.testing.assert_array_equal(after[name], before[name])


def test_a_tensor_of_zeros_stays_zero(shelf, tmp_path):
    def silence(weights):
        weights["block00/mlp/fc1/kernel"][:] = 0

    rounded = with_rounded_weights(draw(tmp_path, edit=silence), shelf)
    assert not dense_weights(rounded)["block00/fc1"].any()
