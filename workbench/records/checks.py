"""Checks of the whole numbers in records."""

from __future__ import annotations

import operator

from ..errors import refuse_unless, shown

#: Whole numbers of 64 bits with a sign: what every store and runtime takes.
LARGEST = (1 << 63) - 1


def whole(value) -> int | None:
    """A whole number, of NumPy's types too, as a Python int; None for anything else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except Exception:  # an object of another program may raise anything
        return None


def positive(record, *names: str, most: int = LARGEST) -> None:
    """Turn these fields of a frozen record into Python ints.

    Raises:
        WorkbenchError: a field is no whole number of 1 or more, or larger than ``most``.
    """
    for name in names:
        value = getattr(record, name)
        number = whole(value)
        refuse_unless(
            number is not None and number > 0,
            f"{type(record).__name__}.{name} must be a positive whole number",
            why=f"it is {shown(value)}",
            remedy=f"give {name} as an integer of 1 or more",
        )
        refuse_unless(
            (number or 0) <= most,
            f"{type(record).__name__}.{name} is larger than anything that can be computed",
            why=f"it is {shown(number)}, and the most is {most:,}",
            remedy=f"give {name} as an integer of 1 to {most}",
        )
        object.__setattr__(record, name, number)
