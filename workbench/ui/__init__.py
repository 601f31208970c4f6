"""Panels and the graph view for notebooks in JupyterLab.

Records of the workbench (a graph, a recipe, a study) come in as what a panel starts from; the same records and the
results of the public functions go out through ``panel.value`` and ``panel.result()``, and ``record`` stores a
notebook's scalars. Panels only choose, start and show work that other rooms do, and no other room imports this one;
its names are imported when they are first used.
"""

from __future__ import annotations

from ..lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "bundle": "bundle_panel",
        "choices": "Aim Build Grid Limits Pair Places Resolution Source",
        "comparison": "compare_panel",
        "engine": "engine_panel engine_table",
        "host": "Place host_panel",
        "model": "Loaded model_panel",
        "netron": "view",
        "panel": "Panel",
        "recipe": "recipe_panel",
        "resolution": "resolution_panel",
        "scalars": "record",
        "sensitivity": "sensitivity_map sensitivity_panel",
        "service": "service_panel",
        "sheet": "EngineSheet engine_sheet engine_sheet_panel",
        "study": "study_panel",
        "frame_table": "table",
        "trade_off": "trade_off_panel",
        "tuning": "tuning_panel",
    },
)
