"""Statistics of measurements: intervals, verdicts, and the sample that a verdict needs.

In come ``Measurement`` records, or counts of images on which two models differ. Out come 95 % intervals, verdicts
that may be "cannot tell", and sentences; ``verdict.py`` decides what cannot be told.
"""
