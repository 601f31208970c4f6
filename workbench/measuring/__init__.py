"""Measures engines and baselines: latency, throughput, accuracy and peak memory.

In come engines, or open sessions with a ``Subject`` that describes them, and images with labels. Out come
``Measurement`` records with raw values; statistics are computed from them later, in ``statistics``.
"""

from .measurement import measure, measure_interleaved, measure_session
from .subject import Subject
from .throughput import diminishing_returns, measure_streams

__all__ = ["Subject", "diminishing_returns", "measure", "measure_interleaved", "measure_session", "measure_streams"]
