"""Plotly figures from data frames, in one palette.

Every function takes a frame and returns a figure that works in a notebook, in ``report.html`` and as a still image.
Set ``plotly.io.templates.default = "workbench-dark"`` for a dark page.
"""

from __future__ import annotations

import importlib

_HOMES = {
    "theme": "COLOURS SYMBOLS",
    "trade_off": "pareto",
    "speed": "latency_distribution throughput_over_batch throughput_over_streams",
    "cost": "attention_cost roofline waterfall",
    "maps": "heat_map ranges",
    "views": "View block_views",
    "pictures": "contact_sheet",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
