"""Records as JSON values, and back."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path


def encode(value, path=str):
    """A record as plain JSON values; ``path`` says how a ``Path`` is written."""
    if dataclasses.is_dataclass(value):
        return {f.name: encode(getattr(value, f.name), path) for f in dataclasses.fields(value)}
    if isinstance(value, Path):
        return path(value)
    if isinstance(value, Mapping):
        return {str(k): encode(v, path) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [encode(v, path) for v in value]
    return value


def decode(cls, data, path=Path):
    """The record of type ``cls`` that ``encode`` wrote; fields that are unknown today are left out.

    Values are checked again on the way in, because ``__post_init__`` runs.
    """
    if dataclasses.is_dataclass(cls):
        hints = typing.get_type_hints(cls)
        return cls(
            **{f.name: decode(hints[f.name], data[f.name], path) for f in dataclasses.fields(cls) if f.name in data}
        )
    origin, arguments = typing.get_origin(cls), typing.get_args(cls)
    if origin in (typing.Union, types.UnionType):
        return None if data is None else decode(next(a for a in arguments if a is not type(None)), data, path)
    if origin is tuple:
        return tuple(decode(arguments[0], item, path) for item in data)
    return path(data) if cls is Path else data
