"""Records as JSON values, and back. Records of earlier versions, with other names of fields, are read too."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

T = typing.TypeVar("T")

#: Record -> the name of a field in earlier versions -> its name today.
RENAMED = {
    "Recipe": {"rest": "high_precision", "keep": "exclude"},
    "Cell": {"obstacle": "refusal"},
}


class RenamedFieldWarning(UserWarning):
    """A stored record of an earlier version has a field that has another name today."""


class CaveatWarning(UserWarning):
    """A stored record holds a figure that is to be read with care; its ``caveat`` says why."""


def encode(value, path: Callable[[Path], str] = str):
    """A record as plain JSON values; ``path`` turns a ``Path`` into text."""
    if dataclasses.is_dataclass(value):
        return {f.name: encode(getattr(value, f.name), path) for f in dataclasses.fields(value)}
    if isinstance(value, Path):
        return path(value)
    if isinstance(value, Mapping):
        return {str(k): encode(v, path) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [encode(v, path) for v in value]
    return value


def decode(cls: type[T], data, path: Callable[[str], Path] = Path) -> T:
    """The record of type ``cls`` that ``encode`` wrote; ``path`` turns text into a ``Path``.

    The record checks its values again. Names in ``data`` that are no fields of the record are ignored.

    Warns:
        RenamedFieldWarning: ``data`` has a field by an earlier name; Python shows each such warning once.
        CaveatWarning: the record has a ``caveat``, which is the warning's text.

    Raises:
        WorkbenchError: the record refuses a value.
    """
    return _decode(cls, data, path)


def _decode(hint, data, path: Callable[[str], Path]):
    if dataclasses.is_dataclass(hint):
        data, hints = _with_names_of_today(hint.__name__, data), _types_of(hint)
        fields = [f.name for f in dataclasses.fields(hint) if f.name in data]
        record = hint(**{name: _decode(hints[name], data[name], path) for name in fields})
        if caveat := getattr(record, "caveat", ""):
            warnings.warn(f"a stored {hint.__name__}: {caveat}", CaveatWarning, stacklevel=1)
        return record
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None if data is None else _decode(next(a for a in arguments if a is not type(None)), data, path)
    if origin is tuple:
        return tuple(_decode(arguments[0], item, path) for item in data)
    return path(data) if hint is Path else data


#: Name of each field of a record -> its type; a study of 100,000 cells decodes thousands of recipes.
_types_of = functools.cache(typing.get_type_hints)


def _with_names_of_today(record: str, data: Mapping) -> Mapping:
    renamed = RENAMED.get(record, {})
    for old, new in renamed.items():
        if old in data:
            message = f"a stored {record} of an earlier version has the field {old!r}, which is named {new!r} today"
            warnings.warn(message, RenamedFieldWarning, stacklevel=1)
    return {renamed.get(name, name): value for name, value in data.items()}
