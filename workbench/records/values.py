"""The one check of a value against the type of a record's field, for constructors, stores, TOML files and hosts."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import WorkbenchError, is_path, refuse_unless, shown
from .checks import LARGEST, whole

#: JSON values are nested at most so deep.
DEEPEST = 40


@functools.cache
def field_types(cls: type) -> Mapping[str, Any]:
    """Name of each field of a dataclass -> its type."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(typing.cast(Any, cls))}


def check_fields(record) -> None:
    """Check every field of a frozen record against its type; lists become tuples, NumPy's numbers Python's own.

    Raises:
        WorkbenchError: a field has a value of another type; it names record and field.
    """
    for name, hint in field_types(type(record)).items():
        value = getattr(record, name)
        found = conform(hint, value, f"{type(record).__name__}.{name}")
        if found is not value:
            object.__setattr__(record, name, found)


def _instance(cls: type, value, where: str):
    refuse_unless(
        isinstance(value, cls),
        f"{where} must be a {cls.__name__}",
        why=f"it is {shown(value)}",
        remedy=f"make one with {cls.__name__}(...)",
    )
    return value


def conform(
    hint,
    value,
    where: str,
    record: Callable[[type, Any, str], Any] = _instance,
    path: Callable[[str], Path] = Path,
):
    """A value as its type has it.

    Args:
        hint: the type: text, numbers, ``Path``, a dataclass, and tuples, mappings and options of these.
        value: anything.
        where: what an error calls the value.
        record: makes a dataclass of a value; left out, the value must be one already.
        path: makes a ``Path`` of text.

    Raises:
        WorkbenchError: the value is of another type, not finite, or nested without end.
    """
    inner = functools.partial(conform, record=record, path=path)
    if dataclasses.is_dataclass(hint):
        return record(typing.cast(type, hint), value, where)
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else inner(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple:
        return _tuple(arguments, value, where, inner)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        of_values = arguments[1] if arguments else Any
        return {name: inner(of_values, each, f"{name!r} of {where}") for name, each in _table(value, where).items()}
    if hint is Path:
        found = _path(value, where)
        return path(value) if isinstance(value, str) else found
    return _SCALARS[hint](value, where)


def _tuple(arguments: tuple, value, where: str, inner) -> tuple:
    if not isinstance(value, tuple | list):
        raise _refused(where, "a list", value)
    if arguments[-1] is ...:
        if _plain_numbers(arguments[0], value):
            return tuple(value)
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        raise _refused(where, f"a list of {len(arguments)}", value)
    return tuple(
        inner(hint, each, f"item {i + 1} of {where}") for i, (hint, each) in enumerate(zip(arguments, value))
    )


def _plain_numbers(hint, values: Sequence) -> bool:
    """Whether all are Python's own numbers of one type within the limits, so that none needs a look of its own.

    Records hold tens of thousands of predictions and latencies.
    """
    if hint is int:
        return all(type(each) is int and -LARGEST <= each <= LARGEST for each in values)
    return hint is float and all(type(each) is float for each in values) and all(map(math.isfinite, values))


def _table(value, where: str) -> Mapping:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise _refused(where, "a table of names and values", value)
    return value


def _path(value, where: str) -> Path:
    if not is_path(value) or value == "":
        raise _refused(where, "a path", value)
    return Path(value)


def _text(value, where: str) -> str:
    if not isinstance(value, str):
        raise _refused(where, "text", value)
    return value


def _flag(value, where: str) -> bool:
    if not isinstance(value, bool):
        raise _refused(where, "True or False", value)
    return value


def _whole(value, where: str) -> int:
    number = whole(value)
    if number is None or abs(number) > LARGEST:
        raise _refused(where, "a whole number", value)
    return number


def _number(value, where: str) -> float:
    """A finite number; whole ones stay whole."""
    if isinstance(value, numbers.Integral):
        return _whole(value, where)
    try:
        number = float(value) if isinstance(value, numbers.Real) else math.nan
    except OverflowError:  # a fraction of large whole numbers
        number = math.inf
    if not math.isfinite(number):
        raise _refused(where, "a finite number", value)
    return number


def _plain(value, where: str, depth: int = 0):
    """What JSON can hold, and paths."""
    if depth > DEEPEST:
        raise WorkbenchError(
            f"A value is nested too deeply: {where[:200]}",
            why=f"values lie in each other more than {DEEPEST} deep",
            remedy="give plain values",
        )
    if value is None or isinstance(value, bool | str | Path):
        return value
    if isinstance(value, numbers.Real):
        return _number(value, where)
    if isinstance(value, list | tuple):
        plain = (_plain(each, where, depth + 1) for each in value)
        return list(plain) if isinstance(value, list) else tuple(plain)
    if isinstance(value, Mapping):
        return {
            name: _plain(each, f"{name[:80]!r} of {where}", depth + 1)
            for name, each in _table(value, where).items()
        }
    raise _refused(where, "a plain value: text, a number, a list or a table", value)


_SCALARS: Mapping[Any, Callable[[Any, str], Any]] = {
    str: _text,
    bool: _flag,
    int: _whole,
    float: _number,
    Any: _plain,
    Mapping: lambda value, where: _plain(_table(value, where), where),
}


def _refused(where: str, words: str, value) -> WorkbenchError:
    return WorkbenchError(f"{where[:300]} must be {words}", why=f"it is {shown(value)}", remedy=f"give {words}")
