"""Records as JSON values, and back. Records of earlier versions, with other names of fields, are read too."""

from __future__ import annotations

import dataclasses
import typing
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import one_of, refuse_unless, shown
from .values import conform, field_types

T = typing.TypeVar("T")

#: Record -> the name of a field in earlier versions -> its name today.
RENAMED = {
    "Recipe": {"rest": "high_precision", "keep": "exclude"},
    "Cell": {"obstacle": "refusal"},
}


class RenamedFieldWarning(UserWarning):
    """A stored record of an earlier version has a field that has another name today."""


class UnknownFieldWarning(UserWarning):
    """A stored record has a field that this version does not know, and that was left out."""


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

    Every value is checked against the type of its field, and the record checks its values again. Names in ``data``
    that are no fields of the record are left out.

    Warns:
        RenamedFieldWarning: ``data`` has a field by an earlier name; Python shows each such warning once.
        UnknownFieldWarning: ``data`` has a field that this version does not know.
        CaveatWarning: the record has a ``caveat``, which is the warning's text.

    Raises:
        WorkbenchError: a field is missing or has a value of another type, or the record refuses a value.
    """
    return _decode(cls, data, f"a stored {cls.__name__}", path, strict=False)


def decode_strictly(cls: type[T], data, where: str) -> T:
    """A record from what a person or another program wrote: as ``decode``, but an unknown name is refused.

    Args:
        cls: the record.
        data: names with values, from TOML or JSON.
        where: what an error calls the data: ``[images] of study.toml``.

    Raises:
        WorkbenchError: as for ``decode``, or a name is no field of the record.
    """
    return _decode(cls, data, where, Path, strict=True)


def _decode(cls: type[T], data, where: str, path: Callable[[str], Path], *, strict: bool) -> T:
    refuse_unless(
        isinstance(data, Mapping) and all(isinstance(name, str) for name in data),
        f"{_sentence(where)} must be a table of names and values",
        why=f"it is {shown(data)}",
        remedy="write it as names with values",
    )
    hints, data = field_types(cls), data if strict else _with_names_of_today(cls.__name__, data)
    unknown = [name for name in data if name not in hints]
    for name in unknown:
        if strict:
            one_of(f"key in {where}", name, tuple(hints))
        message = (
            f"a stored {cls.__name__} has the field {name[:80]!r}, which this version does not know and leaves out"
        )
        warnings.warn(f"{message}; a newer version of the workbench wrote it", UnknownFieldWarning, stacklevel=4)
    newer = "update the workbench: a newer version wrote it" if unknown else "give it a value"

    def nested(inner: type, value, place: str):
        return _decode(inner, value, place, path, strict=strict)

    values = {}
    for field in dataclasses.fields(typing.cast(typing.Any, cls)):
        if field.name in data:
            place = f"{field.name} in {where}"
            values[field.name] = conform(hints[field.name], data[field.name], place, nested, path)
        else:
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            refuse_unless(
                not required, f"{_sentence(where)} lacks {field.name}", why="it has no default", remedy=newer
            )
    record = cls(**values)
    if caveat := getattr(record, "caveat", ""):
        warnings.warn(f"a stored {cls.__name__}: {caveat}", CaveatWarning, stacklevel=4)
    return record


def _sentence(where: str) -> str:
    return where[:1].upper() + where[1:]


def _with_names_of_today(record: str, data: Mapping) -> Mapping:
    renamed = RENAMED.get(record, {})
    for old, new in renamed.items():
        if old in data:
            message = f"a stored {record} of an earlier version has the field {old!r}, which is named {new!r} today"
            warnings.warn(message, RenamedFieldWarning, stacklevel=1)
    return {renamed.get(name, name): value for name, value in data.items()}
