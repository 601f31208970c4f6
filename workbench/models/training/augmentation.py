"""Training images changed at random, inside the compiled step: what is drawn depends on the key alone.

Two policies. ``squares`` turns and mirrors, which keeps a generated shape's class. ``photographs`` is for CIFAR-10:
a mirror image and a shift by up to four pixels (He et al., 2016, arXiv:1512.03385); small turns, shears, zooms and
changes of colour (the operations of RandAugment that need no histogram: Cubuk et al., 2020, arXiv:1909.13719); and,
for a share of the images, mixup (Zhang et al., 2018, arXiv:1710.09412) or CutMix (Yun et al., arXiv:1905.04899).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

#: The policies, by name.
POLICIES = ("squares", "photographs")
#: What lies beyond an image's border: the grey that is normalised to zero.
GREY = 127.5
#: Pixels by which a photograph is shifted at most, along each axis.
SHIFT = 4
#: The share of photographs that are turned, sheared and zoomed, and how far at most: radians, a slope, a factor.
WARPED, TURN, SHEAR, ZOOM = 0.5, 0.35, 0.2, 0.2
#: The share of photographs whose colours change, and how far brightness, contrast and saturation go from 1 at most.
COLOURED, COLOUR = 0.8, 0.5


def augmented(policy: str, mix: float, key: jax.Array, pixels: jax.Array, targets: jax.Array) -> tuple:
    """A batch as the model is trained on it.

    Args:
        policy: one of ``POLICIES``.
        mix: the share of photographs that are mixed with another, 0...1; half by mixup, half by CutMix.
        key: of this step.
        pixels: (B, H, W, 3) uint8.
        targets: (B, classes) float32, a probability for each class.

    Returns:
        Pixels (B, H, W, 3) in 0...255, and the targets that belong to them. Each row still adds up to one.
    """
    if policy == "squares":
        return turned_and_mirrored(key, pixels), targets
    views, colours, mixture = jax.random.split(key, 3)
    images = recoloured(colours, shifted_and_warped(views, pixels.astype(jnp.float32)))
    return mixed(mixture, images, targets, mix) if mix else (images, targets)


def turned_and_mirrored(key: jax.Array, pixels: jax.Array) -> jax.Array:
    """Each image in one of the eight rotations and mirror images of a square."""
    transpose, flip_rows, flip_columns = jax.random.bernoulli(key, 0.5, (3, len(pixels), 1, 1, 1))
    pixels = jnp.where(transpose, pixels.transpose(0, 2, 1, 3), pixels)
    pixels = jnp.where(flip_rows, pixels[:, ::-1], pixels)
    return jnp.where(flip_columns, pixels[:, :, ::-1], pixels)


def shifted_and_warped(key: jax.Array, images: jax.Array) -> jax.Array:
    """Each image mirrored or not, shifted by whole pixels, and for a share of them turned, sheared and zoomed.

    Pixels are read by linear interpolation between four neighbours; an image that is only mirrored and shifted
    keeps its pixels exactly. What lies beyond its border is grey.
    """
    count, height, width = images.shape[:3]
    keys = jax.random.split(key, 4)
    warped = jax.random.bernoulli(keys[0], WARPED, (count,))
    turn, shear, zoom = jnp.where(warped, jax.random.uniform(keys[1], (3, count), minval=-1.0), 0.0)
    angle, slope, scale = TURN * turn, SHEAR * shear, jnp.exp2(ZOOM * zoom)
    flip = jnp.where(jax.random.bernoulli(keys[2], 0.5, (count,)), -1.0, 1.0)
    shift = jax.random.randint(keys[3], (2, count), -SHIFT, SHIFT + 1).astype(jnp.float32)
    cos, sin = scale * jnp.cos(angle), scale * jnp.sin(angle)
    rows, columns = jnp.mgrid[:height, :width].astype(jnp.float32)
    y, x = rows - (height - 1) / 2, columns - (width - 1) / 2

    def place(matrix, offset):
        from_y, from_x = (part[:, None, None] for part in matrix)
        return from_y * y + from_x * x + offset[:, None, None]

    at_rows = place((cos, sin + slope * cos), shift[0] + (height - 1) / 2)
    at_columns = place((-sin * flip, (cos - slope * sin) * flip), shift[1] + (width - 1) / 2)
    return _read(images, at_rows, at_columns)


@jax.vmap
def _read(image: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """An image (H, W, C) at fractional places (H, W) of its rows and columns."""
    read = functools.partial(
        jax.scipy.ndimage.map_coordinates, coordinates=[rows, columns], order=1, mode="constant", cval=GREY
    )
    return jax.vmap(read, in_axes=-1, out_axes=-1)(image)


def recoloured(key: jax.Array, images: jax.Array) -> jax.Array:
    """For a share of the images another brightness, contrast and saturation."""
    first, second = jax.random.split(key)
    changed = jax.random.bernoulli(first, COLOURED, (len(images),))
    factors = jax.random.uniform(second, (3, len(images)), minval=1 - COLOUR, maxval=1 + COLOUR)
    brightness, contrast, saturation = jnp.where(changed, factors, 1.0)[..., None, None, None]
    images = images * brightness
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    images = mean + contrast * (images - mean)
    grey = images.mean(axis=3, keepdims=True)
    return (grey + saturation * (images - grey)).clip(0, 255)


def mixed(key: jax.Array, images: jax.Array, targets: jax.Array, share: float) -> tuple[jax.Array, jax.Array]:
    """A share of the images mixed with the next of the batch, which is another at random: by mixup or by CutMix.

    How much of the second image there is, is uniform in 0...1 (the beta distribution of both papers with a
    parameter of 1, which needs no loop on a GPU). Mixup blends the two. CutMix puts a rectangle of the second into
    the first, cut off at the border. Targets are blended by the share of pixels.
    """
    count, height, width = images.shape[:3]
    keys = jax.random.split(key, 3)
    chosen, cut = jax.random.bernoulli(keys[0], jnp.array([share, 0.5])[:, None], (2, count))
    part = jax.random.uniform(keys[1], (count,))
    inside = [
        jnp.abs(jnp.arange(length) + 0.5 - length * middle[:, None]) < length * jnp.sqrt(part)[:, None] / 2
        for length, middle in zip((height, width), jax.random.uniform(keys[2], (2, count)))
    ]
    rectangle = inside[0][:, :, None] & inside[1][:, None, :]
    weight = jnp.where(cut[:, None, None], rectangle, part[:, None, None])
    weight = jnp.where(chosen[:, None, None], weight, 0.0)  # (B, H, W): of the second image
    images = images + weight[..., None] * (jnp.roll(images, 1, axis=0) - images)
    of_second = weight.mean(axis=(1, 2))[:, None]
    return images, targets + of_second * (jnp.roll(targets, 1, axis=0) - targets)
