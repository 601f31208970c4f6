"""Names of a package that are imported when they are first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable, Callable[[], list[str]], list[str]]:
    """A package's ``__getattr__`` and ``__dir__`` (PEP 562) and its ``__all__``, from a table of names.

    Args:
        package: the package's ``__name__``.
        homes: module below the package -> the public names that it defines, separated by spaces.
    """
    home = {name: module for module, names in homes.items() for name in names.split()}

    def import_name(name: str):
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{home[name]}"), name)

    return import_name, lambda: sorted(home), sorted(home)
