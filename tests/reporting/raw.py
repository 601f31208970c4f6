"""The recorded run as its file has it, and the figures of a measurement, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

FILE = Path(__file__).parents[2] / "data" / "recorded" / "h200.jsonl"


def lines() -> dict[str, dict]:
    """Case -> its line."""
    return {line["case"]: line for line in map(json.loads, FILE.read_text().splitlines()[1:])}


def rate(measurement: dict, window: str) -> float:
    """Images a second that were completed in ``compute`` or ``end_to_end``."""
    counted = measurement[window]
    return measurement["batch"] * sum(counted["calls"]) / sum(counted["seconds"])


def percentile_ms(measurement: dict, percent: float) -> float:
    """A percentile of the latency of a call."""
    return 1e3 * float(np.percentile(measurement["latencies_s"], percent))


def timed(line: dict) -> dict[int, dict]:
    """Batch -> the measurement of one caller."""
    return {m["batch"]: m for m in line.get("measurements", ())}
