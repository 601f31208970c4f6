"""Measurements made up by hand: four engines of one model, the faster the less accurate."""

from workbench.records import Measurement, Recipe
from workbench.studies.frame import as_frame, measured_row


def measurement(precision, batch, milliseconds, right, images=1000):
    """An engine that gets the first ``right`` of its images right; the reference gets 900."""
    labels = (1,) * images
    return Measurement(
        backend="onnxruntime",
        model="drawn",
        recipe=Recipe(precision),
        batch=batch,
        variant=precision,
        latencies_s=tuple((milliseconds + 0.01 * (i % 5)) / 1e3 for i in range(50)),
        predictions=(1,) * right + (0,) * (images - right),
        labels=labels,
        reference_predictions=(1,) * 900 + (0,) * 100,
        dataset="test",
    )


MEASUREMENTS = [
    measurement("fp32", 8, 80, 900),
    measurement("fp16", 8, 50, 898),
    measurement("int8", 8, 30, 880),
    measurement("int8-dynamic", 8, 20, 700),
]


def frame():
    """The frame of a study with these measurements."""
    return as_frame([measured_row(m) for m in MEASUREMENTS])
