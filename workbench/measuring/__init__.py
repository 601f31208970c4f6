"""Latency, accuracy and memory of engines."""
