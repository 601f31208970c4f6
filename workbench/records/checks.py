"""What every record asks of its numbers."""

from __future__ import annotations

import operator

from ..errors import refuse_unless


def whole(value) -> int | None:
    """A whole number of any kind (NumPy's too) as Python's own; None for anything else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def positive(record, *names: str) -> None:
    """Refuse fields that are no whole number above zero; NumPy's become Python's own."""
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
