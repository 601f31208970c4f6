import jax
import numpy as np
import pytest

import workbench as wb
from workbench.models import vit
from workbench.models.outliers import with_norm_outliers

SPEC = wb.ModelSpec("tiny", image_size=16, patch=8, width=32, depth=2, heads=2, mlp=64, classes=5)


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    # Biases and scales at random too: at their first values some mistakes would not show.
    return jax.tree.map(lambda p: p + 0.1 * rng.standard_normal(p.shape).astype(np.float32), vit.init(SPEC))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).uniform(-1, 1, (6, 16, 16, 3)).astype(np.float32)


@pytest.mark.parametrize("factor", [50.0, 400.0])
def test_outliers_change_nothing_that_the_model_computes(params, images, factor):
    before = wb.logits(SPEC, params, images)
    treated = with_norm_outliers(SPEC, params, factor=factor)
    np.testing.assert_allclose(wb.logits(SPEC, treated, images), before, atol=2e-5)
    np.testing.assert_array_equal(wb.logits(SPEC, params, images), before)  # the given tree is left alone


def test_outliers_are_in_the_tensors_that_quantization_sees(params, images):
    def largest(tree, name):
        _, inside = vit.forward_with_intermediates(SPEC, tree, images)
        return np.abs(np.asarray(inside[name])).max(axis=(0, 1))

    plain, spiky = (largest(tree, "block01/norm2") for tree in (params, with_norm_outliers(SPEC, params)))
    assert np.sort(spiky / plain)[-3:] == pytest.approx([1, 50, 50], rel=1e-2)
