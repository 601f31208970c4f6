"""Plotly figures from data frames, all in one palette.

Every function takes a frame and returns a figure that works in a notebook, in a report and as a still image; a
frame without rows, or without a column that is drawn, is refused. ``theme`` holds the palette, and
``plotly.io.templates.default = "workbench-dark"`` chooses the dark page.
"""

from __future__ import annotations

from .calibration import ranges
from .cost import attention_cost, marked_size, roofline, waterfall
from .maps import View, block_views, heat_map
from .pictures import contact_sheet
from .serving import service_timeline
from .speed import latency_distribution, throughput_over_batch, throughput_over_latency, throughput_over_streams
from .theme import COLOURS, SYMBOLS
from .trade_off import has_energy, pareto

__all__ = [
    "COLOURS",
    "SYMBOLS",
    "View",
    "attention_cost",
    "block_views",
    "contact_sheet",
    "has_energy",
    "heat_map",
    "latency_distribution",
    "marked_size",
    "pareto",
    "ranges",
    "roofline",
    "service_timeline",
    "throughput_over_batch",
    "throughput_over_latency",
    "throughput_over_streams",
    "waterfall",
]
