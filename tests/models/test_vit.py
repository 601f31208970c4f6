import dataclasses

import jax
import numpy as np
import pytest

import workbench as wb
from workbench.models import tree, vit
from workbench.places import place_of

TINY = wb.ModelSpec("tiny", image_size=16, patch=8, width=32, depth=2, heads=2, mlp=64, classes=5)
IMAGES = np.random.default_rng(0).standard_normal((3, 16, 16, 3)).astype(np.float32)
FORWARD = jax.jit(vit.forward_with_intermediates, static_argnums=0)


@pytest.fixture(scope="module")
def params():
    return vit.init(TINY)


@pytest.mark.parametrize("classifier", ["token", "gap"])
@pytest.mark.parametrize("representation", [None, 8])
def test_the_module_asks_for_the_parameters_that_the_tree_has(classifier, representation):
    spec = dataclasses.replace(TINY, classifier=classifier, representation=representation)
    made = jax.eval_shape(vit.VisionTransformer(spec).init, jax.random.key(0), IMAGES)["params"]
    given = tree.join_qkv(vit.init(spec))
    assert jax.tree.map(lambda leaf: leaf.shape, made) == jax.tree.map(lambda leaf: leaf.shape, given)


@pytest.mark.parametrize("classifier", ["token", "gap"])
def test_every_intermediate_bears_the_name_of_a_place(classifier):
    spec = dataclasses.replace(TINY, classifier=classifier, representation=8)
    y, inter = FORWARD(spec, vit.init(spec), IMAGES)
    assert all(place_of(name) is not None for name in inter)
    assert {place_of(name).role for name in inter if place_of(name).block == "block01"} == {
        *("norm1", "qkv", "scores", "softmax", "proj", "residual", "norm2", "fc1", "gelu", "fc2", "other")
    }
    assert inter["block01/attention/qkv"].shape == (3, spec.tokens, 96)
    assert inter["block01/attention/softmax"].shape == (3, 2, spec.tokens, spec.tokens)
    np.testing.assert_array_equal(inter["head/output"], y)
    np.testing.assert_allclose(inter["block00/attention/softmax"].sum(-1), 1, atol=1e-6)


def test_logits_do_not_depend_on_how_many_images_are_given(params):
    images = np.resize(IMAGES, (35, 16, 16, 3))  # one full batch and a short one
    y = wb.logits(TINY, params, images)
    assert y.shape == (35, 5)
    assert y.dtype == np.float32
    one_by_one = [wb.logits(TINY, params, image[None])[0] for image in IMAGES]
    np.testing.assert_allclose(y, np.resize(one_by_one, (35, 5)), atol=1e-5)


def test_many_large_images_are_computed_in_batches_that_fit(monkeypatch):
    monkeypatch.setattr(vit, "ACTIVATION_BUDGET", 8 << 30)
    assert vit._images_at_once(wb.model_spec("B/32"), 10_000) == vit.MOST_IMAGES_AT_ONCE
    wide = wb.model_spec("B/8", image_size=1024)  # 16,385 tokens: 26 GB of scores and probabilities an image
    assert vit._images_at_once(wide, 10_000) == 1


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (IMAGES[:, :8], r"\(3, 8, 16, 3\)"),
        (IMAGES[0], r"\(16, 16, 3\)"),
        (IMAGES.astype(np.float64), "float64"),
        ((IMAGES * 255).astype(np.uint8), "uint8"),
        (IMAGES[:0], r"\(0, 16, 16, 3\)"),
        (np.where(IMAGES > 2, np.nan, IMAGES), "not finite"),
        (np.where(IMAGES > 2, np.inf, IMAGES), "not finite"),
    ],
    ids=["wrong size", "one image", "float64", "uint8", "none", "NaN", "infinity"],
)
def test_unfit_images_are_refused(params, images, reason):
    with pytest.raises(wb.WorkbenchError, match=reason) as error:
        wb.logits(TINY, params, images)
    assert error.value.remedy
