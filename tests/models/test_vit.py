import dataclasses

import jax
import numpy as np
import pytest

import workbench as wb
from workbench.datasets import shapes
from workbench.models import tree, vit
from workbench.places import place_of

TINY = wb.ModelSpec("tiny", image_size=16, patch=8, width=32, depth=2, heads=2, mlp=64, classes=5)
IMAGES = np.random.default_rng(0).standard_normal((3, 16, 16, 3)).astype(np.float32)
FORWARD = jax.jit(vit.forward_with_intermediates, static_argnums=0)


@pytest.fixture(scope="module")
def params():
    return vit.init(TINY)


# Ti/16 and B/32: vit_jax's README; the others as torchvision and timm publish them for the same architecture.
@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        ("Ti/16", 5_717_416),
        ("S/16", 22_050_664),
        ("S/32", 22_878_952),
        ("B/32", 88_224_232),
        ("B/16", 86_567_656),
        ("B/8", 86_576_872),
        ("L/32", 306_535_400),
        ("L/16", 304_326_632),
        ("H/14", 632_045_800),
        # by hand: patches 192·192 + 192, cls 192, positions 145·192, six blocks of 12·192² + 13·192, LN 384,
        # head 192·16 + 16
        ("tutorial", 37_056 + 192 + 27_840 + 6 * 444_864 + 384 + 3_088),
    ],
)
def test_every_size_has_the_published_number_of_parameters(size, parameters):
    shapes_of = vit.parameter_shapes(wb.model_spec(size))
    assert sum(int(np.prod(shape)) for shape in shapes_of.values()) == parameters


@pytest.mark.parametrize("classifier", ["token", "gap"])
@pytest.mark.parametrize("representation", [None, 8])
def test_the_module_asks_for_the_parameters_that_the_tree_has(classifier, representation):
    spec = dataclasses.replace(TINY, classifier=classifier, representation=representation)
    made = jax.eval_shape(vit.VisionTransformer(spec).init, jax.random.key(0), IMAGES)["params"]
    given = tree.join_qkv(vit.init(spec))
    assert jax.tree.map(lambda leaf: leaf.shape, made) == jax.tree.map(lambda leaf: leaf.shape, given)


def test_the_tutorial_model_has_the_classes_of_shapes():
    assert len(shapes.CLASSES) == vit.TUTORIAL.classes
    assert vit.TUTORIAL.image_size == shapes.SIZE


def test_the_size_table_gives_a_spec_for_any_resolution_and_head():
    spec = wb.model_spec("ViT-B_16", image_size=384, classes=10, classifier="gap", representation=768)
    assert (spec.name, spec.patch, spec.tokens, spec.classes) == ("ViT-B/16", 16, 24 * 24, 10)
    assert spec.representation == 768


def test_an_unknown_size_is_refused_with_the_nearest_one():
    with pytest.raises(wb.WorkbenchError, match="B/33") as error:
        wb.model_spec("B/33")
    assert "B/32" in str(error.value.remedy)


def test_an_image_that_the_patch_does_not_divide_is_refused():
    with pytest.raises(wb.WorkbenchError, match="patches"):
        wb.model_spec("B/16", image_size=225)


def test_parameters_are_named_as_linen_names_them(params):
    assert set(params) == {"embedding", "cls", "Transformer", "head"}
    assert set(params["Transformer"]["encoderblock_1"]) == {
        "LayerNorm_0",
        "MultiHeadDotProductAttention_0",
        "LayerNorm_1",
        "MlpBlock_0",
    }
    assert params["Transformer"]["encoderblock_0"]["MultiHeadDotProductAttention_0"]["query"]["kernel"].shape == (
        32,
        2,
        16,
    )


def test_joining_q_k_and_v_and_splitting_them_again_changes_nothing(params):
    joined = tree.join_qkv(params)
    assert joined["Transformer"]["encoderblock_0"]["MultiHeadDotProductAttention_0"]["qkv"]["kernel"].shape == (
        32,
        96,
    )
    jax.tree.map(np.testing.assert_array_equal, tree.split_qkv(joined, TINY.heads), params)
    assert tree.join_qkv(joined) == joined  # so forward takes either


def test_the_same_seed_gives_the_same_parameters_and_another_does_not(params):
    jax.tree.map(np.testing.assert_array_equal, vit.init(TINY, seed=0), params)
    assert not np.array_equal(vit.init(TINY, seed=1)["head"]["kernel"], params["head"]["kernel"])


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


def test_parameters_of_another_model_are_refused_by_name(params):
    other = dataclasses.replace(TINY, mlp=48)
    with pytest.raises(wb.WorkbenchError, match="encoderblock_0/MlpBlock_0/Dense_0/kernel"):
        wb.logits(other, params, IMAGES)
