"""Panels and the graph view for JupyterLab; nobody imports this package but notebooks.

``from workbench import ui``, then ``ui.recipe_panel(...)`` or ``ui.view(graph)``. Names are imported on first use.
"""

from __future__ import annotations

from ..lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
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
    },
)
