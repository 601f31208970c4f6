"""Plotly figures from data frames, in one palette."""
