"""A generated image set that needs no download: sixteen classes made of a shape and a texture.

Every image is a pure function of (seed, split, index, size). Its scene is drawn from a random stream of its own, in
units of the image, so the same index shows the same scene at every size. A shape is a signed distance computed for
all pixels at once, which gives clean edges without supersampling.

The constants below make the set easy or hard. Each nuisance has a range and a *rarity*: its strength is
``low + (high - low) * u ** rarity`` with u uniform. So most images are easy, and a few are so covered, faint or
noisy that nobody can be sure of them. The constants aim at a top-1 of 90 % to 97 % for a well-trained small ViT.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from ..errors import one_of, refuse_unless
from .splits import SPLITS

#: Number of corners, and the radius of the points halfway between them over the radius of the corners.
SHAPES = {"circle": None, "triangle": (3, 0.5), "square": (4, 0.5**0.5), "star": (5, 0.45)}
TEXTURES = ("plain", "striped", "checkered", "dotted")
CLASSES = tuple(f"{texture} {shape}" for shape in SHAPES for texture in TEXTURES)
SIZE = 96


class Strength(NamedTuple):
    """The range of a nuisance's strength, and how rare strong values are (1: uniform)."""

    low: float
    high: float
    rarity: float

    def draw(self, rng: np.random.Generator) -> float:
        """One image's strength."""
        return self.low + (self.high - self.low) * rng.random() ** self.rarity


# Distances are in half images (48 pixels of 96), colours and noise in 0...1.
RADIUS = (0.34, 0.66)  # of a disc of about the object's area
PERIOD = (0.17, 0.30)  # of the texture: 8 to 14 pixels at 96
FAINTNESS = Strength(0.0, 0.86, 3.0)  # how far the object's colours move towards the background's
FLATNESS = Strength(0.0, 0.90, 3.0)  # how far the texture's two tones move towards each other
NOISE = Strength(0.005, 0.20, 5.0)  # standard deviation per pixel and channel
COVER = Strength(0.02, 0.42, 2.5)  # half width of the bars in front, as a share of the object's radius
DIMNESS = Strength(0.0, 0.70, 3.0)  # light taken from the whole image
SLOPE = Strength(0.0, 0.45, 1.0)  # fall of the light across the image
CLUTTER = 6  # things behind the object, at most
BARS = 3  # things in front of it, at most

SHADOW = 0.08  # how far the soft edge of the object's shadow reaches

_CORNER = {"circle": 0.80, "triangle": 1.24, "square": 1.00, "star": 1.23}  # radii that make the areas about equal


def generate(
    indices: Iterable[int], *, split: str = "training", seed: int = 0, size: int = SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the images of these indices. Many processes can draw parts of one range.

    Args:
        indices: whole numbers of 0 or more; index ``i`` has class ``i % 16``, so any run of them is balanced.
        split: ``training``, ``calibration`` or ``evaluation``.
        seed: the same seed gives the same images.
        size: pixels along an edge, 8 or more.

    Returns:
        Pixels (N, size, size, 3) uint8 and labels (N,) int64.

    Raises:
        WorkbenchError: an unknown split, a negative seed or index, or too small a size.
    """
    one_of("split", split, tuple(SPLITS))
    indices = np.asarray(list(indices), np.int64)
    refuse_unless(
        seed >= 0 and size >= 8 and bool((indices >= 0).all()),
        "These shapes cannot be drawn",
        why=f"seed is {seed}, size {size}, the lowest index {min(indices, default=0)}",
        remedy="give a seed and indices of 0 or more, and a size of 8 pixels or more",
    )
    pixels = np.empty((len(indices), size, size, 3), np.uint8)
    for row, index in zip(pixels, indices.tolist()):
        row[:] = _draw(np.random.default_rng([seed, SPLITS[split], index]), CLASSES[index % len(CLASSES)], size)
    return pixels, indices % len(CLASSES)


def _draw(rng: np.random.Generator, name: str, size: int) -> np.ndarray:
    """One image (size, size, 3) uint8. Noise comes last, so that the scene before it is the same at every size."""
    texture, shape = name.split()
    canvas, base = _background(rng, size)
    for _ in range(rng.integers(CLUTTER + 1)):
        _bar(canvas, rng, rng.uniform(-1, 1, 2), half_width=rng.uniform(0.02, 0.07), length=rng.uniform(0.0, 0.35))
    centre, radius = rng.uniform(-0.25, 0.25, 2), rng.uniform(*RADIUS)
    _object(canvas, rng, shape, texture, centre, radius, base)
    for _ in range(rng.integers(BARS + 1)):
        place = centre + radius * rng.uniform(-0.6, 0.6, 2)
        _bar(canvas, rng, place, half_width=radius * COVER.draw(rng), length=rng.uniform(0.5, 1.5))
    _light(canvas, rng)
    canvas += np.float32(NOISE.draw(rng)) * _grain(rng, canvas.shape)
    canvas *= 255
    canvas += np.float32(0.5)
    return canvas.clip(0, 255, out=canvas).astype(np.uint8).transpose(1, 2, 0)


@functools.lru_cache(maxsize=8)
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns (1, size) and rows (size, 1) of the pixel centres, -1...1."""
    line = ((np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1).astype(np.float32)
    return line[None, :], line[:, None]


@functools.lru_cache(maxsize=8)
def _blend(size: int, knots: int) -> np.ndarray:
    """Weights (size, knots) that interpolate smoothly between evenly spaced knots."""
    place = np.linspace(0, knots - 1, size)[:, None]
    near = np.clip(1 - np.abs(place - np.arange(knots)), 0, 1)
    return (near * near * (3 - 2 * near)).astype(np.float32)


def _colour(rng: np.random.Generator, vivid: float) -> np.ndarray:
    """A colour (3, 1, 1) of random hue and lightness, 0...1; ``vivid`` 0 is grey."""
    hue, lightness = rng.random(), 0.35 + 0.4 * rng.random()
    channels = (lightness + 0.5 * vivid * math.cos(2 * math.pi * (hue + third / 3)) for third in range(3))
    return np.array([[[min(max(channel, 0.02), 0.98)]] for channel in channels], np.float32)


def _paint(canvas: np.ndarray, alpha: np.ndarray, colour: np.ndarray) -> None:
    canvas += alpha * (colour - canvas)


def _cover(distance: np.ndarray, softness: float) -> np.ndarray:
    """Coverage 0...1 of pixels whose signed distance to an edge is given; the edge is ``softness`` wide."""
    return np.clip(0.5 - distance / softness, 0, 1)


def _background(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Soft patches of related colours (3, size, size), and their mean colour."""
    base = _colour(rng, vivid=rng.uniform(0.05, 0.6))
    knots = base + rng.uniform(0.02, 0.22) * rng.uniform(-1, 1, (3, 4, 4)).astype(np.float32)
    weights = _blend(size, 4)
    return weights @ knots @ weights.T, base


def _bar(canvas: np.ndarray, rng: np.random.Generator, centre, half_width: float, length: float) -> None:
    """Draw a straight stroke with round ends in a random colour; ``length`` is half its length, ends excluded."""
    size, angle, colour = canvas.shape[-1], rng.uniform(0, math.pi), _colour(rng, vivid=rng.uniform(0.1, 0.9))
    reach = half_width + 2 / size
    columns = _span(centre[0], length * abs(math.cos(angle)) + reach, size)
    rows = _span(centre[1], length * abs(math.sin(angle)) + reach, size)
    x, y = _grid(size)
    along, across = _turned(x[:, columns] - np.float32(centre[0]), y[rows] - np.float32(centre[1]), angle)
    beyond = np.maximum(np.abs(along) - np.float32(length), 0)
    distance = np.sqrt(beyond * beyond + across * across) - np.float32(half_width)
    _paint(canvas[:, rows, columns], _cover(distance, 2 / size), colour)


def _span(middle: float, reach: float, size: int) -> slice:
    """The pixels within ``reach`` of ``middle`` along one edge, so that small things cost little."""
    first, last = ((middle - reach + 1) * size / 2, (middle + reach + 1) * size / 2)
    return slice(max(0, int(first)), max(0, int(last) + 1))


def _object(canvas, rng: np.random.Generator, shape: str, texture: str, centre, radius: float, base) -> None:
    """Draw the object that the label names, with a shadow, two tones and a highlight."""
    size, stretch, turn = canvas.shape[-1], rng.uniform(0.88, 1.14), rng.uniform(0, 2 * math.pi)
    corner = 1.25 * _CORNER[shape] * radius
    columns, rows = (_span(middle, 1.15 * corner + SHADOW, size) for middle in centre)
    x, y = _grid(size)
    x, y = x[:, columns] - np.float32(centre[0]), y[rows] - np.float32(centre[1])
    u, v = _turned(x, y, turn)
    u, v = u * np.float32(stretch), v * np.float32(1 / stretch)
    distance = _distance(shape, u, v, corner)
    canvas = canvas[:, rows, columns]
    _shadow(canvas, distance, shift=max(1, round(SHADOW / 5 * size)))
    colour, other = _tones(rng, base)
    tone = _pattern(texture, rng, u, v, 2 / size)
    shine = (x + y) * np.float32(-0.10 / radius)
    _paint(canvas, _cover(distance, 2 / size), colour + shine + tone * (other - colour))


def _turned(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along and across a direction."""
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def _tones(rng: np.random.Generator, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two colours of an object: one that differs from the background, and one that differs from the first."""
    side = -1 if base.mean() > 0.55 else 1
    colour = _colour(rng, vivid=rng.uniform(0.5, 1.0)) + np.float32(side * rng.uniform(0.0, 0.35))
    pale = 0.95 if colour.mean() < 0.5 else 0.08
    other = np.float32(pale) + np.float32(0.25) * (_colour(rng, vivid=1.0) - np.float32(0.5))
    other = colour + np.float32(1 - FLATNESS.draw(rng)) * (other - colour)
    strength = np.float32(1 - FAINTNESS.draw(rng))
    return base + strength * (colour - base), base + strength * (other - base)


def _shadow(canvas: np.ndarray, distance: np.ndarray, shift: int) -> None:
    """Darken the canvas below and to the right of the object."""
    shade = 1 - np.float32(0.45) * _cover(distance[:-shift, :-shift], 2 * SHADOW)
    canvas[:, shift:, shift:] *= shade


def _distance(shape: str, u: np.ndarray, v: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance to a shape's edge, negative inside.

    Polygons and stars are symmetric, so every pixel is first folded (by rotation and reflection) into the sector
    between one corner and the point halfway to the next. One straight edge bounds the shape there.
    """
    polygon = SHAPES[shape]
    if polygon is None:
        return np.sqrt(u * u + v * v) - np.float32(radius)
    corners, inner = polygon
    sector = np.pi / corners
    angle = np.abs(np.arctan2(v, u))
    angle = np.abs(angle - np.float32(2 * sector) * np.round(angle / np.float32(2 * sector)))
    length = np.sqrt(u * u + v * v)
    edge = np.array([inner * np.cos(sector) - 1, inner * np.sin(sector)])
    normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    nx, ny = normal.astype(np.float32)
    return length * (np.cos(angle) * nx + np.sin(angle) * ny) - np.float32(radius * normal[0])


def _pattern(texture: str, rng: np.random.Generator, u: np.ndarray, v: np.ndarray, pixel: float) -> np.ndarray:
    """How much of the second tone each pixel has, 0...1."""
    if texture == "plain":
        return np.zeros_like(u)
    rate, phases = 2 * math.pi / rng.uniform(*PERIOD), rng.uniform(0, 2 * math.pi, 2).astype(np.float32)
    along, across = _turned(u, v, rng.uniform(0, math.pi))
    first = np.cos(along * np.float32(rate) + phases[0])
    second = np.cos(across * np.float32(rate) + phases[1])
    waves = {"striped": first, "checkered": first * second, "dotted": (first + second - np.float32(0.7)) / 2}
    return _cover(waves[texture], -rate * pixel)  # a wave crosses zero at a slope of ``rate``


def _light(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Light the canvas from one side, more or less dimly."""
    x, y = _grid(canvas.shape[-1])
    angle, slope, level = rng.uniform(0, 2 * np.pi), SLOPE.draw(rng), 1 - DIMNESS.draw(rng)
    fall, _ = _turned(x, y, angle)
    canvas *= np.float32(level) + np.float32(level * slope) * fall


@functools.cache
def _quantiles() -> np.ndarray:
    """The middles of 4096 equally likely slices of the normal distribution, float32."""
    return np.array([NormalDist().inv_cdf((i + 0.5) / 4096) for i in range(4096)], np.float32)


def _grain(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal noise (of 4096 values, enough for 8-bit pixels), five times as fast as NumPy's."""
    count = math.prod(shape)
    dice = rng.bit_generator.random_raw(-(-count // 4)).view(np.uint16)[:count] >> 4
    return _quantiles().take(dice, mode="clip").reshape(shape)
