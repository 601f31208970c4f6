"""Hostile values, and random changes of JSON values and of bytes."""

from __future__ import annotations

import copy
import datetime
import decimal
import fractions
import math
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np


class Spiteful:
    """Every question to it fails."""

    def _fail(self, *args):
        raise RuntimeError("spite")

    __repr__ = __str__ = __eq__ = __len__ = __iter__ = __index__ = __float__ = __bool__ = __fspath__ = _fail
    __hash__ = object.__hash__


def _nested(depth: int):
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


#: What JSON can hold.
PLAIN = [
    *(None, True, False, -1, 0, 1, 3, 2**31, 2**32, 2**62, 2**63, -(2**63) - 1, 10**30, 0.5, -0.0, 1e308, 5e-324),
    *(math.nan, math.inf, -math.inf, "", "x", "shapes", "fp16", "\0", "a" * 100_000, "\ud800", "../../up", "NaN"),
    *([], [[]], [None], [1, 2], ["a"], [1, "a"], [math.nan] * 3, _nested(30), _nested(500), {}, {"a": 1}, {"": []}),
    *({"size": -1}, {"precision": "int8"}, list(range(50))),
]
#: What a Python program can pass.
OBJECTS = [
    *PLAIN,
    *(10**400, (1, 2), (1.0, 2.0, 3.0), set(), frozenset([1]), b"bytes", bytearray(3), object(), object, len, ...),
    *(1j, range(3), Path("x"), np.float32("nan"), np.float64(0.5), np.int64(3), np.uint8(1), np.bool_(True)),
    *(np.arange(3), np.array(5), np.zeros((0, 3)), np.array(["a"]), np.str_("fp16"), fractions.Fraction(1, 3)),
    *(fractions.Fraction(10**400, 3), decimal.Decimal("NaN"), decimal.Decimal(1), datetime.date(2026, 1, 1)),
    *(datetime.datetime(2026, 1, 1), {1: 2}, {None: 1}, {"a": {1}}, {"a": object()}, Spiteful(), [Spiteful()]),
    *(_nested(5000), ValueError("x"), memoryview(b"abc"), np.array([object()]), np.datetime64("2026-01-01")),
]


def places(value, path: tuple = ()) -> Iterator[tuple]:
    """The paths to every value inside a JSON value, itself included."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield from places(each, (*path, key))


def changed(value, rng: random.Random, pool=PLAIN):
    """A copy of a JSON value with one to three values in it replaced, removed or added."""
    value, known = copy.deepcopy(value), [path for path in places(value) if path]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if known:
            path = rng.choice(known)
            _change(value, path, rng, pool)
            known = [other for other in known if other[: len(path)] != path]  # what the pool gave stays as it is
    return value


def _change(value, path: tuple, rng: random.Random, pool) -> None:
    *way, last = path
    for key in way:
        value = value[key]
    act = rng.random()
    if act < 0.75 or not isinstance(value, dict):
        value[last] = rng.choice(pool)
    elif act < 0.9:
        del value[last]
    else:
        value[f"{last} of the future"] = rng.choice(pool)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes cut short, with some changed, some removed, some doubled, or something put before them."""
    content, size = bytearray(content), len(content)
    act = rng.randrange(6)
    at = rng.randrange(size) if size else 0
    if act == 0:
        del content[at:]
    elif act == 1:
        for _ in range(rng.choice((1, 1, 4, 64))):
            content[rng.randrange(size)] = rng.randrange(256)
    elif act == 2:
        del content[at : at + rng.randrange(1, 100)]
    elif act == 3:
        content[at:at] = content[max(0, at - rng.randrange(1, 100)) : at]
    elif act == 4:
        content[:0] = rng.choice((b"\xef\xbb\xbf", b"\0", b"<html>", bytes(1000)))
    else:
        content[at : at + 8] = rng.choice((b"\xff" * 8, bytes(8), b"\x7f" + b"\xff" * 7))
    return bytes(content)
