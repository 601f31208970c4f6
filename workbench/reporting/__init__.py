"""What people look at: tables, figures, and the report of a study.

Data frames (of studies, profiles, inspections, calibrations) and records come in. Plotly figures, text and one
self-contained HTML file go out; nothing is measured or decided here.
"""
