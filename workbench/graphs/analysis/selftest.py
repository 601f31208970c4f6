"""Checks before any comparison: JAX model, graph, variant, images and labels must belong together.

A wrong mean or a shifted label makes every engine look equally bad; on one side alone it can make an INT8 engine
look better than FP32. So the evaluation is tested first, and a comparison is refused where the sides do not agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...datasets import ImageSet
from ...errors import WorkbenchError, refuse_unless
from ...measuring.accuracy import check_label_range, same_logits
from ...progress import silent
from ...records import Engine, Graph, ModelSpec, Preprocessing, Variant, wilson
from ..parity import HALF_TOLERANCE
from ..quantization.activations import logits_of
from ..quantization.emulation import load_widened
from ..quantization.images import check_same_images, graph_input
from .difference import diff
from .engine_evidence import check_not_far_above, engine_logits
from .original import computes_in_half

#: Largest relative error of the logits. Rounding in float32 stays below it; a wrong GELU gives three times as much.
PARITY = 1e-4
#: Images whose logits are compared; labels are judged on all.
COMPARED = 64
#: Two lists of classes are the same list in another order when renaming raises their agreement from below half to
#: above half. Both are tested by intervals of this confidence, so that labels of no meaning are not taken for it.
RENAMED, SURE = 0.5, 0.9999
#: Room for resizing filters that overshoot, in units of a normalised pixel.
SLACK = 0.05


@dataclass(frozen=True)
class Check:
    """One thing that two sides agree on, in words and as a number."""

    what: str
    found: str


@dataclass(frozen=True)
class SelfTest:
    """What was checked. Nothing failed: a failed check raises an error."""

    checks: tuple[Check, ...]

    def frame(self):
        """One row per check, as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame([vars(check) for check in self.checks])


def check_evaluator(
    images: ImageSet | np.ndarray,
    labels=None,
    *,
    graph: Graph,
    model: tuple[ModelSpec, dict] | Path | None = None,
    variant: Variant | None = None,
    engine: Engine | None = None,
) -> SelfTest:
    """Test that images, labels, JAX, the FP32 graph, a variant and an engine belong together.

    Args:
        images: an image set, or (N, H, W, 3) float32, normalised.
        labels: N whole numbers; an image set brings its own.
        graph: the float32 graph.
        model: (spec, params) of the JAX model that the graph was exported from, or the path of the ONNX file that
            it was imported from.
        variant: what is to be compared with the graph.
        engine: what is to be evidence; it is run here on all images.

    Raises:
        WorkbenchError: two of them do not belong together; it says which, and where they differ. Or the engine
            gives equal images different logits, or is far more accurate than the graph.
    """
    checks = []
    if isinstance(images, ImageSet):
        checks.append(_same_preprocessing("the image set", images.preprocessing, graph.preprocessing))
        _same_classes(images.classes, graph)
        labels, images = images.labels, images.x
    x = graph_input(graph, images)
    checks.append(_in_range(x, graph.preprocessing))
    logits = logits_of(graph, load_widened(graph.path), x, silent)
    _refuse_constant(logits, x)
    if model is not None:
        checks.append(_same_as_original(graph, model, images[:COMPARED]))
    if variant is not None:
        checks.append(_same_preprocessing("the variant", variant.graph.preprocessing, graph.preprocessing))
        chosen = logits_of(graph, load_widened(variant.path), x[:COMPARED], silent).argmax(axis=1)
        checks.append(check_order("the variant", chosen, logits[:COMPARED].argmax(axis=1), logits.shape[1]))
    if labels is not None:
        checks.append(check_labels(logits, np.asarray(labels)))
    if engine is not None:
        checks += _engine_checks(engine, graph, images, logits, None if labels is None else np.asarray(labels))
    return SelfTest(tuple(checks))


def _engine_checks(
    engine: Engine, graph: Graph, images: np.ndarray, logits: np.ndarray, labels: np.ndarray | None
) -> Iterator[Check]:
    """What an engine must pass to be evidence, see ``engine_evidence``."""
    yield _same_preprocessing("the engine", engine.variant.graph.preprocessing, graph.preprocessing)
    found, fp32 = engine_logits(engine, images), logits.argmax(axis=1)
    yield Check("equal images in the engine", f"equal logits in batches of {_batches_of(engine)}")
    yield check_order("the engine", found.argmax(axis=1), fp32, logits.shape[1])
    if labels is not None:
        gain = check_not_far_above(found.argmax(axis=1), fp32, labels)
        yield Check("the engine's accuracy", f"{100 * gain:+.1f} points against FP32 on {len(labels)} images")


def _batches_of(engine: Engine) -> str:
    return " and ".join(str(rows) for rows in sorted({engine.batches.opt, engine.batches.max}))


def check_labels(logits: np.ndarray, labels: np.ndarray) -> Check:
    """Refuse labels that count in another order than the logits, or on which the model is no better than chance.

    Args:
        logits: (N, classes) of the float32 model.
        labels: (N,) whole numbers.
    """
    check_label_range(labels, logits.shape[1])
    chosen, classes = logits.argmax(axis=1), logits.shape[1]
    check_order("the labels", labels, chosen, classes)
    hits = int((chosen == labels).sum())
    low, _ = wilson(hits, len(labels))
    # A model that always answers the commonest class is right by chance too.
    chance = max(1 / classes, np.bincount(labels).max() / len(labels)) if len(set(labels.tolist())) > 1 else 0
    refuse_unless(
        low > chance or len(labels) < classes,
        "The comparison is refused: the labels say nothing about this model",
        why=f"FP32 is right on {hits} of {len(labels)} images; chance is {chance:.1%}",
        remedy="check that images and labels are in one order, and that the model was trained on these classes",
    )
    return Check("labels against FP32", f"top-1 {hits / len(labels):.1%} of {len(labels)} images")


def check_order(side: str, ours: np.ndarray, reference: np.ndarray, classes: int) -> Check:
    """Refuse classes that agree with the reference's only after they are renamed.

    Args:
        side: whose classes they are, for the message.
        ours: (N,) whole numbers within the classes.
        reference: (N,), what the float32 model chose.
        classes: how many there are.
    """
    from scipy.optimize import linear_sum_assignment

    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (ours, reference), 1)
    rows, columns = linear_sum_assignment(-confusion)
    hits, renamed = int(np.trace(confusion)), int(confusion[rows, columns].sum())
    below, above = wilson(hits, len(ours), SURE)[1] < RENAMED, wilson(renamed, len(ours), SURE)[0] > RENAMED
    if below and above and len(ours) >= 2 * classes:  # of fewer images each can be given a class of its own
        moved = next(i for i in rows[np.argsort(-confusion[rows, columns])] if columns[i] != i)
        raise WorkbenchError(
            f"The comparison is refused: {side} and FP32 count the classes in different orders",
            why=f"{hits} of {len(ours)} agree, and {renamed} would after renaming: class {moved} of {side} is "
            f"class {columns[moved]} of FP32",
            remedy="bring the class names into the order in which the model was trained",
        )
    return Check(f"{side} against FP32", f"same class on {hits / len(ours):.1%} of {len(ours)} images")


def _same_preprocessing(side: str, found: Preprocessing, expected: Preprocessing) -> Check:
    check_same_images(side, found, expected)
    return Check(f"preprocessing of {side}", "the same as the graph's")


def _same_classes(classes: tuple[str, ...], graph: Graph) -> None:
    expected = graph.preprocessing.classes
    for index, (ours, theirs) in enumerate(zip(classes, expected)):
        refuse_unless(
            ours == theirs,
            f"The comparison is refused: class {index} is {ours!r} for the images and {theirs!r} for the graph",
            why="labels count the classes of the image set, logits those of the graph",
            remedy="load the images with preprocessing=graph.preprocessing, which puts the classes in its order",
        )


def _in_range(x: np.ndarray, preprocessing: Preprocessing) -> Check:
    """Normalised pixels lie between a black and a white pixel of each channel, and on both sides of the middle."""
    if preprocessing.input == "uint8":
        return Check("range of the pixels", "the graph takes the pixels and normalises them itself")
    mean, std = (np.asarray(v, np.float64) for v in (preprocessing.mean, preprocessing.std))
    axes = (0, 1, 2) if preprocessing.layout == "NHWC" else (0, 2, 3)
    low, high = x.min(axis=axes), x.max(axis=axes)
    black, white = -mean / std, (255 - mean) / std
    found = (
        f"pixels lie in {low.min():.3g} … {high.max():.3g}, and black is {black.min():.3g}, white {white.max():.3g}"
    )
    refuse_unless(
        bool(np.all(low >= black - SLACK) and np.all(high <= white + SLACK) and np.any(low < (black + white) / 2)),
        "The comparison is refused: the images are not normalised as the graph wants them",
        why=found,
        remedy="call workbench.normalise(pixels, graph.preprocessing)",
    )
    return Check("range of the pixels", found)


def _refuse_constant(logits: np.ndarray, x: np.ndarray) -> None:
    """Refuse a model that answers the same to different images: every other check would pass."""
    refuse_unless(
        not same_logits(logits, logits[0]) or not (x != x[0]).any(),
        "The comparison is refused: the model's answer does not depend on the image",
        why=f"all {len(x)} images have the same logits, so that parity and agreement prove nothing",
        remedy="load a checkpoint with a trained head: some are published with one of zeros, to be trained by you",
    )


def _same_as_original(graph: Graph, model: tuple[ModelSpec, dict] | Path, images: np.ndarray) -> Check:
    name = model.name if isinstance(model, Path) else "JAX"
    difference = diff(graph, model, images)
    error = difference.rows[-1].error
    allowed = HALF_TOLERANCE if isinstance(model, Path) and computes_in_half(model) else PARITY
    refuse_unless(
        error <= allowed,
        f"The comparison is refused: {name} and the FP32 graph differ at {difference.jump or 'the logits'}",
        why=f"relative error {error:.2g} over {difference.images} images, where rounding stays below {allowed:g}",
        remedy=f"make the graph again from {'this file' if isinstance(model, Path) else 'these parameters'}",
    )
    return Check(f"FP32 graph against {name}", f"relative error {error:.1g} over {difference.images} images")
