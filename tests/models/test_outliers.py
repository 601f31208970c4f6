import jax
import numpy as np
import pytest

import workbench as wb
from workbench.models import vit
from workbench.models.outliers import with_norm_outliers, with_residual_outliers

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


def test_the_residual_stream_gets_two_constant_channels_and_every_later_layernorm_undoes_them(params, images):
    treated = with_residual_outliers(SPEC, params, images, factor=200.0)
    before, after = (vit.intermediates(SPEC, tree, images) for tree in (params, treated))
    for name in ("block00/output", "block01/residual1", "block01/output"):
        added = after[name] - before[name]
        typical = np.median(before["block00/output"].std(axis=-1))
        large = np.sort(np.abs(added).mean(axis=(0, 1)))[-2:]
        assert large == pytest.approx(200 * typical, rel=0.05)
        assert np.abs(after[name]).max() > 20 * np.abs(before[name]).max()
    for name in ("block01/norm1", "block01/norm2", "norm/output"):
        assert np.abs(after[name]).max() < 2 * np.abs(before[name]).max()
    np.testing.assert_array_equal(after["block00/norm2"], before["block00/norm2"])
    # nearly the same: where all tokens have the median variance nothing would differ
    assert np.corrcoef(after["logits"].ravel(), before["logits"].ravel())[0, 1] > 0.95


def test_small_outliers_in_the_residual_stream_change_little(params, images):
    treated = with_residual_outliers(SPEC, params, images, factor=0.01)
    np.testing.assert_allclose(wb.logits(SPEC, treated, images), wb.logits(SPEC, params, images), atol=1e-2)
