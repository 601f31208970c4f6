import dataclasses

import jax
import numpy as np
import pytest
from flax import traverse_util

import workbench as wb
from workbench.models import tree

TINY = wb.ModelSpec("tiny", image_size=16, patch=8, width=32, depth=2, heads=2, mlp=64, classes=5)


@pytest.fixture(scope="module")
def params():
    return tree.init(TINY)


def test_joining_q_k_and_v_and_splitting_them_again_changes_nothing(params):
    attention = "Transformer/encoderblock_0/MultiHeadDotProductAttention_0"
    joined = tree.join_qkv(params)
    assert traverse_util.flatten_dict(params, sep="/")[f"{attention}/query/kernel"].shape == (32, 2, 16)
    assert traverse_util.flatten_dict(joined, sep="/")[f"{attention}/qkv/kernel"].shape == (32, 96)
    jax.tree.map(np.testing.assert_array_equal, tree.split_qkv(joined, TINY.heads), params)
    assert tree.join_qkv(joined) == joined  # so forward takes either


def test_the_same_seed_gives_the_same_parameters_and_another_does_not(params):
    jax.tree.map(np.testing.assert_array_equal, tree.init(TINY, seed=0), params)
    assert not np.array_equal(tree.init(TINY, seed=1)["head"]["kernel"], params["head"]["kernel"])


def test_parameters_of_another_model_are_refused_by_name(params):
    other = dataclasses.replace(TINY, mlp=48)
    with pytest.raises(wb.WorkbenchError, match="encoderblock_0/MlpBlock_0/Dense_0/kernel"):
        tree.check_parameters(other, params)
