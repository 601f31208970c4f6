"""Is an engine fit to be evidence? Equal images must give equal logits, and no engine is far better than its FP32.

TensorRT 11.1 returned four answers for four equal rows of a batch, silently (NVIDIA/TensorRT#4813). Where an INT8
engine is far more accurate than the FP32 model that it was made from, something is wrong with the FP32 side: often
its preprocessing.
"""

from __future__ import annotations

import contextlib

import numpy as np

from ...backends import open_engine
from ...backends.base import Session
from ...errors import WorkbenchError, refuse_unless
from ...measuring.subject import Subject
from ...progress import Progress, silent
from ...records import Engine
from ...statistics.intervals import discordant_pairs, paired_interval

#: Largest difference of the logits of equal rows, as a share of the largest logit. Equal rows take the same sums in
#: another order at most, which changes the last bits of a half.
EQUAL_ROWS = 1e-3
#: How far the accuracy of an engine may lie above its FP32 model's: refused where the 95 % interval lies beyond it.
FAR_ABOVE = 0.02


def engine_logits(engine: Engine, images: np.ndarray, progress: Progress = silent) -> np.ndarray:
    """Test that equal rows give equal logits, then compute the logits of images, (N, classes).

    Args:
        engine: that can be run here.
        images: (N, H, W, 3) or in the graph's own layout, normalised.
        progress: see ``progress.Progress``; stage ``engine``, in images.

    Raises:
        WorkbenchError: equal rows of a batch give different logits, or the engine cannot be opened.
    """
    subject = Subject.of(engine)
    images, size = subject.checked_images(images), engine.batches.opt
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(open_engine(engine))
        for rows in sorted({engine.batches.opt, engine.batches.max}):
            check_equal_rows(session, subject, images[0], rows)
        found, exact = [], stack.enter_context(subject.exact(session))
        for start in range(0, len(images), size):
            progress("engine", start, len(images))
            part = images[start : start + size]
            full = images[np.minimum(np.arange(start, start + max(len(part), engine.batches.min)), len(images) - 1)]
            found.append(subject.logits(exact)(full)[: len(part)])
        progress("engine", len(images), len(images))
    return np.concatenate(found).astype(np.float32)


def check_equal_rows(session: Session, subject: Subject, image: np.ndarray, rows: int) -> float:
    """Refuse a session that answers differently for equal images of one batch.

    Args:
        session: an open engine.
        subject: what it is.
        image: (H, W, 3), normalised.
        rows: images of the batch.

    Returns:
        The largest difference from the first row, as a share of the largest logit.
    """
    logits = np.asarray(subject.logits(session)(np.repeat(image[None], rows, axis=0)), np.float32)
    largest = float(np.abs(logits).max())
    differences = np.abs(logits - logits[0]).max(axis=1) / (largest or 1.0)
    worst = int(differences.argmax())
    refuse_unless(
        bool(differences[worst] <= EQUAL_ROWS),
        "The engine is refused as evidence: equal images of one batch get different logits",
        why=f"row {worst} of {rows} differs from row 0 by {differences[worst]:.2g} of the largest logit; rounding "
        f"stays below {EQUAL_ROWS:g}",
        remedy="build it again, with another version of TensorRT where it stays so: 11.1 is known for it "
        "(NVIDIA/TensorRT#4813)",
    )
    return float(differences[worst])


def check_not_far_above(chosen: np.ndarray, fp32: np.ndarray, labels: np.ndarray) -> float:
    """Refuse an engine whose accuracy lies far above that of its own FP32 model.

    Args:
        chosen: the engine's class of every image, (N,).
        fp32: the FP32 model's, (N,).
        labels: the true classes, (N,).

    Returns:
        The engine's accuracy minus FP32's.
    """
    ours, theirs = chosen == labels, fp32 == labels
    gain = float(ours.mean() - theirs.mean())
    low, high = paired_interval(*discordant_pairs(ours, theirs), len(labels))
    if low > FAR_ABOVE:
        raise WorkbenchError(
            "The engine is refused as evidence: it is far more accurate than its own FP32 model",
            why=f"top-1 is {ours.mean():.1%} against {theirs.mean():.1%} of FP32 on {len(labels)} images; the "
            f"difference is {low:.1%} to {high:.1%}, and rounding cannot gain more than {FAR_ABOVE:.0%}",
            remedy="look for the mistake on the side of FP32: other preprocessing, another checkpoint, or labels "
            "that were made by the engine",
        )
    return gain
