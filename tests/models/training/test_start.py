import dataclasses

import jax
import numpy as np
import pytest

import workbench as wb
from workbench.models import vit
from workbench.models.training.start import starting_parameters, waves

SPEC = wb.ModelSpec("small", 32, 4, 64, 2, 2, 96, 10, classifier="gap")


def test_a_mimetic_attention_sees_tokens_like_its_own_and_takes_their_mean_away():
    for start, alike in (("mimetic", True), ("vit_jax", False)):
        params = starting_parameters(SPEC, 0, start)
        vit.check_parameters(SPEC, params)
        attention = params["Transformer"]["encoderblock_1"]["MultiHeadDotProductAttention_0"]
        query, key, value, out = (attention[name]["kernel"] for name in ("query", "key", "value", "out"))
        for head in range(SPEC.heads):
            assert (np.trace(query[:, head] @ key[:, head].T) / SPEC.width > 0.3) == alike
        product = value.reshape(64, 64) @ out.reshape(64, 64)
        assert (np.trace(product) / SPEC.width < -0.3) == alike
        assert (np.abs(product - np.diag(np.diag(product))).max() < 0.4) or not alike


def test_positions_are_most_like_their_neighbours():
    places = waves(SPEC)[0].reshape(8, 8, 64)
    likeness = np.tensordot(places, places[3, 4], axes=1)
    assert np.unravel_index(likeness.argmax(), likeness.shape) == (3, 4)
    near, far = likeness[3, 5], likeness[3, 7]
    assert likeness[3, 4] > near > far
    np.testing.assert_allclose(likeness[3, 5], likeness[4, 4], rtol=1e-5)


@pytest.mark.parametrize("changed", [{"classifier": "token"}, {"width": 66}])
def test_the_class_token_and_left_over_channels_have_no_position(changed):
    spec = dataclasses.replace(SPEC, **changed)
    found = waves(spec)
    assert found.shape == (1, spec.tokens, spec.width)
    assert (found[0, 0] == 0).all() == (spec.classifier == "token")
    assert (found[..., 64:] == 0).all()


def test_a_seed_gives_the_same_start_again_and_another_seed_another_one():
    first, again, other = (starting_parameters(SPEC, seed, "mimetic")["Transformer"] for seed in (3, 3, 4))
    kernels = [tree["encoderblock_0"]["MultiHeadDotProductAttention_0"]["key"]["kernel"] for tree in (first, other)]
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(*kernels)
