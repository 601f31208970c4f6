"""Record a notebook's results as values, which ``tutorial.recorded_scalars`` reads from the executed notebook."""

from __future__ import annotations

import math
import numbers

from ..errors import WorkbenchError
from ..records import SCALARS_MIMETYPE


def record(**scalars) -> None:
    """Show named results under the cell and store them in the notebook as values.

    Args:
        **scalars: numbers, strings, booleans or None; NumPy scalars too. Infinity and NaN are stored as null,
            because JSON has no infinity and no NaN.

    Raises:
        WorkbenchError: a value is not a scalar.
    """
    from IPython.display import display

    values = {name: _plain(name, value) for name, value in scalars.items()}
    width = max(map(len, values), default=0)
    text = "\n".join(f"{name:<{width}}  {value}" for name, value in values.items())
    display({SCALARS_MIMETYPE: values, "text/plain": text}, raw=True)


def _plain(name: str, value):
    if isinstance(value, bool | str | None):
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    raise WorkbenchError(
        f"{name} cannot be recorded",
        why=f"it is a {type(value).__name__}, not a number, string, boolean or None",
        remedy="record one number of it, the one that a test should check",
    )
