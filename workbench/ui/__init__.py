"""Panels and the graph view for JupyterLab; nobody imports this package but notebooks.

``from workbench import ui``, then ``ui.recipe_panel(...)`` or ``ui.view(graph)``. Names are imported on first use.
"""

from __future__ import annotations

import importlib

_HOMES = {
    "choices": "Build Grid Limits Pair",
    "comparison": "compare_panel",
    "engine": "engine_panel engine_table",
    "netron": "view",
    "panel": "Panel",
    "recipe": "recipe_panel",
    "scalars": "record",
    "sensitivity": "sensitivity_map sensitivity_panel",
    "study": "study_panel",
    "trade_off": "trade_off_panel",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__():
    return sorted({*globals(), *__all__})
