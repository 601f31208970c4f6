"""Latency, accuracy and memory of engines."""

from .concurrency import diminishing_returns, measure_streams
from .measurement import measure, measure_in_turns, measure_session
from .subject import Subject

__all__ = ["Subject", "diminishing_returns", "measure", "measure_in_turns", "measure_session", "measure_streams"]
