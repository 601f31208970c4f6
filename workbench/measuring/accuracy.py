"""What accuracy is computed from: a model's top class for every image, and the ranks of the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..errors import WorkbenchError, refuse_unless
from ..progress import Progress, silent

#: Rows of logits are the same where they differ by less than this share of the largest logit.
SAME = 1e-6
TINY = float(np.finfo(np.float32).tiny)
#: What a reader must know of a model whose logits are the same for all images.
CONSTANT = (
    "the logits are the same for every image: the answer does not depend on the image, so that parity, agreement"
    " and accuracy prove nothing. A head of zeros is the usual cause: some checkpoints are published without a"
    " trained head"
)


@dataclass(frozen=True)
class Predictions:
    """The top class of every image, (N,), and on how many the label is among the five highest logits.

    ``constant`` says that all images, though they differ, have the same logits.
    """

    classes: np.ndarray
    top5_hits: int = 0
    constant: bool = False


def _none() -> np.ndarray:
    return np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A model's predictions on an evaluation set, beside the labels and the classes that a reference predicts.

    Attributes:
        predictions: of the model.
        labels: the true classes, (N,), or None.
        reference_classes: the reference's top class of every image, (N,); empty where there is no reference.
        reference: what the reference is called.
    """

    predictions: Predictions = field(default_factory=lambda: Predictions(_none()))
    labels: np.ndarray | None = None
    reference_classes: np.ndarray = field(default_factory=_none)
    reference: str = ""


def predict(
    logits: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    batch: int,
    at_least: int = 1,
    stage: str = "accuracy",
    progress: Progress = silent,
) -> Predictions:
    """Classify images batch by batch.

    Args:
        logits: computes (n, classes) for (n, H, W, 3).
        images: (N, H, W, 3).
        labels: (N,) or None.
        batch: images per call; the last call may have fewer.
        at_least: the fewest images that ``logits`` takes; a shorter last batch is padded, and the logits of the
            padding are dropped.
        stage: the stage that progress is reported under, in images.
        progress: see ``progress.Progress``.

    Raises:
        WorkbenchError: a logit is NaN or infinite, or a label lies beyond the classes.
    """
    chosen, hits, first = [], 0, np.empty(0, np.float32)
    constant = len(images) > 1
    for start in range(0, len(images), batch):
        progress(stage, start, len(images))
        part = images[start : start + batch]
        found = np.asarray(logits(_padded(part, at_least)))[: len(part)].astype(np.float32)
        check_logits(found, start)
        first = first if start else found[0]
        constant = constant and same_logits(found, first)
        chosen.append(found.argmax(axis=1))
        if labels is not None:
            hits += int((label_ranks(found, labels[start : start + batch]) < 5).sum())
    progress(stage, len(images), len(images))
    constant = constant and bool((images != images[0]).any())
    return Predictions(np.concatenate(chosen), hits, constant)


def same_logits(logits: np.ndarray, first: np.ndarray) -> bool:
    """Whether all rows are the row ``first``, but for the last bits of its largest logit."""
    return bool(np.abs(logits - first).max() <= SAME * max(float(np.abs(first).max()), TINY))


def label_ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes rank before each label, (N,); of equal logits the lower class ranks first, as in argmax.

    Raises:
        WorkbenchError: a label lies beyond the classes.
    """
    check_label_range(labels, logits.shape[1])
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    tied_before = (logits == own) & (np.arange(logits.shape[1]) < labels[:, None])
    return ((logits > own) | tied_before).sum(axis=1)


def checked_labels(labels, count: int) -> np.ndarray:
    """Labels as (N,) int64, one for each of ``count`` images.

    Raises:
        WorkbenchError: they have another shape, or are no whole numbers.
    """
    labels = np.asarray(labels)
    refuse_unless(
        labels.shape == (count,) and np.issubdtype(labels.dtype, np.integer),
        "The labels do not fit the images",
        why=f"there are {count} images; the labels are {labels.dtype} {labels.shape}",
        remedy="give one whole number per image",
    )
    return labels.astype(np.int64)


def check_label_range(labels: np.ndarray, classes: int) -> None:
    """Refuse labels outside 0 ... classes - 1."""
    outside = labels[(labels < 0) | (labels >= classes)]
    refuse_unless(
        not outside.size,
        "Labels lie beyond the model's classes",
        why=f"the model has {classes} classes, numbered from 0; the labels are {labels.min()} to {labels.max()}",
        remedy="count classes from 0, in the order in which the model was trained",
    )


def check_logits(logits: np.ndarray, first: int = 0) -> None:
    """Refuse logits that are NaN or infinite; ``first`` is the number of the first image among all."""
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if bad.size:
        raise WorkbenchError(
            f"The logits of image {first + bad[0]} are NaN or infinite",
            why=f"{bad.size} of {len(logits)} images in this batch have logits that are not finite",
            remedy="a value beyond FP16's 65,504 is the usual cause: exclude the block where it happens from "
            "FP16, or use BF16; check the checkpoint when FP32 has such logits too",
        )


def _padded(part: np.ndarray, at_least: int) -> np.ndarray:
    missing = at_least - len(part)
    return part if missing <= 0 else np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
