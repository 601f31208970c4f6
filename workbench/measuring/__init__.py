"""Latency, accuracy and memory of engines."""

from .measurement import measure, measure_in_turns, measure_session
from .subject import Subject
from .throughput import diminishing_returns, measure_streams

__all__ = ["Subject", "diminishing_returns", "measure", "measure_in_turns", "measure_session", "measure_streams"]
