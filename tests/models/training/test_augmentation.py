import jax
import jax.numpy as jnp
import numpy as np
import pytest

from workbench.models.training import augmentation
from workbench.models.training.augmentation import SHIFT

SIZE = 12
augmented = jax.jit(augmentation.augmented, static_argnums=(0, 1))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (96, SIZE, SIZE, 3), np.uint8)
    targets = jax.nn.one_hot(rng.integers(0, 5, 96), 5)
    return jnp.asarray(pixels), targets


def test_squares_are_turned_and_mirrored_and_no_pixel_changes():
    image = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    pixels = jnp.asarray(np.stack([image] * 200))
    found, _ = augmented("squares", 0.0, jax.random.key(0), pixels, jnp.ones((200, 1)))
    turned = [np.rot90(image, k) for k in range(4)]
    allowed = {view.tobytes() for view in [*turned, *(view[:, ::-1] for view in turned)]}
    assert {view.tobytes() for view in np.asarray(found)} == allowed


def test_a_key_gives_the_same_batch_again_and_another_key_another_one(batch):
    first, again, other = (augmented("photographs", 0.5, jax.random.key(k), *batch) for k in (1, 1, 2))
    for one, same in zip(first, again):
        np.testing.assert_array_equal(one, same)
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("mix", [0.0, 0.5, 1.0])
def test_photographs_stay_within_their_range_and_every_target_adds_up_to_one(batch, mix):
    images, targets = augmented("photographs", mix, jax.random.key(3), *batch)
    assert images.shape == batch[0].shape
    assert images.min() >= 0
    assert images.max() <= 255
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    assert targets.min() >= 0
    mixed = np.asarray((targets > 0).sum(axis=1) > 1)
    assert mixed.any() == (mix > 0)


def test_a_photograph_that_is_not_warped_is_mirrored_and_shifted_with_grey_beyond_its_border(batch, monkeypatch):
    monkeypatch.setattr(augmentation, "WARPED", 0.0)
    found = np.asarray(augmentation.shifted_and_warped(jax.random.key(4), batch[0].astype(jnp.float32)))
    border = [(0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)]
    padded = np.pad(np.asarray(batch[0], np.float32), border, constant_values=augmentation.GREY)
    seen = set()
    for image, wide in zip(found, padded):
        views = {
            (flip, top, left): wide[top : top + SIZE, left : left + SIZE][:, ::flip]
            for flip in (1, -1)
            for top in range(2 * SHIFT + 1)
            for left in range(2 * SHIFT + 1)
        }
        equal = [place for place, view in views.items() if np.array_equal(image, view)]
        assert len(equal) == 1
        seen.add(equal[0])
    for axis, values in enumerate(zip(*seen)):
        assert len(set(values)) == (2, 2 * SHIFT + 1, 2 * SHIFT + 1)[axis]


def test_cutmix_gives_a_rectangle_and_its_share_of_the_target():
    images = jnp.arange(64.0)[:, None, None, None] * jnp.ones((1, SIZE, SIZE, 3))
    targets = jax.nn.one_hot(jnp.arange(64), 64)
    found, new = (np.asarray(part) for part in augmentation.mixed(jax.random.key(5), images, targets, 1.0))
    cut = 0
    for number, (image, target) in enumerate(zip(found, new)):
        other = (number - 1) % 64
        of_other = target[other]
        assert target[number] == pytest.approx(1 - of_other, abs=1e-6)
        assert image.mean() == pytest.approx(number + of_other * (other - number), abs=1e-3)
        inside = image[..., 0] == other
        if set(np.unique(image)) <= {number, other}:
            cut += 1
            rows, columns = inside.any(axis=1), inside.any(axis=0)
            np.testing.assert_array_equal(inside, rows[:, None] & columns[None])
            assert inside.mean() == pytest.approx(of_other, abs=1e-6)
    assert 16 <= cut <= 48  # about half of the images


def test_a_changed_brightness_contrast_or_saturation_leaves_a_share_of_the_images_alone(batch, monkeypatch):
    images = batch[0].astype(jnp.float32)
    monkeypatch.setattr(augmentation, "COLOURED", 0.5)
    found = augmentation.recoloured(jax.random.key(6), images)
    unchanged = np.abs(np.asarray(found - images)).max(axis=(1, 2, 3)) < 1e-3
    assert 24 <= unchanged.sum() <= 72
