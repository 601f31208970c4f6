"""Checks of the whole numbers in records."""

from __future__ import annotations

import operator

from ..errors import refuse_unless


def whole(value) -> int | None:
    """A whole number, of NumPy's types too, as a Python int; None for anything else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def positive(record, *names: str) -> None:
    """Turn these fields of a frozen record into Python ints.

    Raises:
        WorkbenchError: a field is no whole number of 1 or more.
    """
    for name in names:
        value = getattr(record, name)
        number = whole(value)
        refuse_unless(
            number is not None and number > 0,
            f"{type(record).__name__}.{name} must be a positive whole number",
            why=f"it is {value!r}",
            remedy=f"give {name} as an integer of 1 or more",
        )
        object.__setattr__(record, name, number)
