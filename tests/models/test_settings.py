"""JAX's settings in a user's kernel do not change what the model computes."""

import jax
import numpy as np
import pytest

import workbench as wb
from workbench.models import vit


@pytest.mark.parametrize("setting", ["raise", "warn"])
def test_rank_promotion_that_a_user_forbids_is_the_models_own_business(setting):
    spec = wb.ModelSpec("t", 32, 8, 64, 2, 2, 128, 10)
    params, x = vit.init(spec, 0), np.random.default_rng(0).standard_normal((3, 32, 32, 3), dtype=np.float32)
    expected = wb.logits(spec, params, x)
    with jax.numpy_rank_promotion(setting):
        np.testing.assert_array_equal(wb.logits(spec, params, x), expected)
        assert set(vit.intermediates(spec, params, x)) >= {"logits", "block00/output"}
        np.testing.assert_allclose(jax.jit(vit.forward, static_argnums=0)(spec, params, x), expected, atol=1e-5)
