"""What a reader must know of the images that were measured: a scale that the model was not trained on."""

from __future__ import annotations

import numpy as np

from ..backends.base import Session
from ..datasets.input_range import other_readings, unusual_range
from ..datasets.preprocessing import as_float
from .subject import Subject

#: Images that the model's confidence is compared on.
COMPARED = 64


def input_notes(session: Session, subject: Subject, images: np.ndarray) -> tuple[str, ...]:
    """Notes on images far outside the usual range, with the other scale by name and the model's own confidence.

    Args:
        session: an open session of the subject.
        subject: what is measured; without an engine the preprocessing is unknown, and the range alone is looked at.
        images: (N, H, W, 3), as the subject takes them.
    """
    preprocessing = subject.engine.variant.graph.preprocessing if subject.engine else None
    pixels = images.dtype == np.uint8
    if pixels and preprocessing is None:
        return ()
    seen = as_float(images[:COMPARED], preprocessing) if pixels and preprocessing else images
    if not (unusual := unusual_range(seen)):
        return ()
    if preprocessing is None:
        return (f"{unusual}: check mean and std",)
    notes = []
    for reading in other_readings(seen[:COMPARED], preprocessing):
        surer = "" if pixels else f"; {_compared(session, subject, images[:COMPARED], reading.images)}"
        notes.append(f"{unusual}. This is what {reading.mistake} look like{surer}. Then: {reading.remedy}")
    return tuple(notes) or (f"{unusual}: check mean and std, which are on the 0…255 scale",)


def _compared(session: Session, subject: Subject, given: np.ndarray, other: np.ndarray) -> str:
    ours, theirs = (confidence(session, subject, images) for images in (given, other))
    verdict = "surer" if theirs > ours else "not surer"
    return (
        f"read so, the model is {verdict} of its answers: their mean probability is {theirs:.2f} against {ours:.2f}"
    )


def confidence(session: Session, subject: Subject, images: np.ndarray) -> float:
    """The mean probability (softmax) of a model's own answers to images (N, H, W, 3), 0...1."""
    low, high = (subject.batches.min, subject.batches.max) if subject.batches else (1, len(images))
    size = max(low, min(high, len(images)))
    whole = -(-len(images) // size) * size  # the last batch is filled up from the beginning
    rows, logits = images[np.arange(whole) % len(images)], subject.logits(session)
    found = np.concatenate([logits(rows[start : start + size]) for start in range(0, whole, size)])[: len(images)]
    exponentials = np.exp(found.astype(np.float64) - found.max(axis=1, keepdims=True))
    return float((1 / exponentials.sum(axis=1)).mean())
