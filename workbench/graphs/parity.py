"""Parity: a graph computes what its original computes, the JAX model or the imported file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..backends.onnxruntime import TookTooLong, inference_session, run_within
from ..datasets.preprocessing import as_float
from ..errors import WorkbenchError, refuse_unless
from ..measuring.accuracy import CONSTANT, same_logits
from ..progress import Progress
from ..records import Graph, ModelSpec, Parity, Preprocessing
from .door import has_loops

#: The largest difference between two logits. Independent implementations of vit_jax agree to 5e-6 on logits of
#: about 1; a wrong GELU or a wrong epsilon is off by 3e-4 or more.
TOLERANCE = 1e-4
#: Float32 rounding grows with the logits: where they are larger than 10, this share of the largest is allowed.
RELATIVE_TOLERANCE = 1e-5
#: Seconds after which a graph with loops is stopped.
LOOPS_END_S = 10.0
#: An original in FP16 rounds to 11 bits after each of some hundred operators: this share of the largest logit.
HALF_TOLERANCE = 0.05


def _tolerance(largest: float) -> float:
    """The difference that is allowed where the largest logit is ``largest``."""
    return max(TOLERANCE, RELATIVE_TOLERANCE * largest)


# ---- with JAX ----------------------------------------------------------------------------------------------------


def compare_with_jax(
    spec: ModelSpec,
    params,
    path: Path,
    preprocessing: Preprocessing,
    images: np.ndarray,
    batches: tuple[int, ...],
    progress: Progress,
) -> tuple[Parity, tuple[str, ...]]:
    """Compare a graph on ONNX Runtime with JAX.

    Args:
        spec: the model's shape.
        params: its parameters.
        path: the ONNX file.
        preprocessing: how images become the graph's input.
        images: (N, H, W, 3), as the graph takes them.
        batches: the batch sizes that the images are given in, one after the other. With one size, a short batch
            at the end is filled up with images from the beginning; with several it stays short.
        progress: see ``progress.Progress``; stage ``compare``, counted in images.

    Returns:
        The parity, and notes for the graph.

    Raises:
        WorkbenchError: logits or classes differ by more than rounding; it names the block where they part.
    """
    from ..models.vit import logits

    expected = logits(spec, params, as_float(images, preprocessing))
    found = _run(path, images, batches, progress)
    error = float(np.abs(found - expected).max())
    largest = float(np.abs(expected).max())
    tolerance = _tolerance(largest)
    agreement = float(np.mean(_same_class(found, expected, tolerance)))
    parity = Parity(error, agreement, len(images), batches)
    notes = ()
    if tolerance > TOLERANCE:
        notes = (
            f"The logits reach {largest:.3g}, so parity allows {tolerance:.2g} ({RELATIVE_TOLERANCE:g} of that)"
            f" instead of {TOLERANCE:g}; the largest difference is {error:.2g}.",
        )
    if error < tolerance and agreement == 1:
        return parity, (*notes, *constant_notes(expected))
    raise WorkbenchError(
        f"The exported graph of {spec.name} does not compute what JAX computes",
        why=_difference(spec, params, path, preprocessing, images, parity, tolerance),
        remedy="compare the two with workbench.diff; another opset may be converted correctly",
    )


def constant_notes(logits: np.ndarray) -> tuple[str, ...]:
    """A note where different images have the same logits (N, classes), so that parity proves nothing."""
    return (f"Mind that {CONSTANT}.",) if len(logits) > 1 and same_logits(logits, logits[0]) else ()


def _same_class(found: np.ndarray, expected: np.ndarray, tolerance: float) -> np.ndarray:
    """Whether both choose one class, or two classes whose logits differ by less than rounding."""
    rows, chosen, right = np.arange(len(found)), found.argmax(1), expected.argmax(1)
    margin = expected[rows, right] - expected[rows, chosen]
    return (chosen == right) | (margin < 2 * tolerance)


def _run(path: Path, images: np.ndarray, batches: tuple[int, ...], progress: Progress) -> np.ndarray:
    session = inference_session(path)
    parts, start = [], 0
    while start < len(images):
        progress("compare", start, len(images))
        size = batches[len(parts) % len(batches)]
        batch = images[start : start + size]
        if len(batches) == 1 and len(batch) < size:
            batch = images[np.arange(start, start + size) % len(images)]
        parts.append(session.run(None, {session.get_inputs()[0].name: batch})[0])
        start += size
    progress("compare", len(images), len(images))
    return np.concatenate(parts)[: len(images)]


def _difference(
    spec, params, path: Path, preprocessing: Preprocessing, images: np.ndarray, parity: Parity, tolerance: float
) -> str:
    """How far the two differ, and the output at which most of the error is added."""
    from .analysis.difference import diff

    graph = Graph(path, "", 0, preprocessing, spec)
    rows = diff(graph, (spec, params), images[:8]).rows
    worst = max(rows, key=lambda row: row.added if np.isfinite(row.added) else np.inf)
    return (
        f"logits differ by up to {parity.max_abs_error:.3g} (allowed: {tolerance:.2g}) and {parity.agreement:.1%}"
        f" of {parity.images} images get the same class; the worst block is {worst.output.split('/')[0]}, whose"
        f" output adds a relative error of {worst.added:.2g}"
    )


# ---- with the imported file --------------------------------------------------------------------------------------


def outputs_of(path: Path, batches: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What a file computes of each batch on ONNX Runtime, its optimizations off, so that only the file counts.

    Raises:
        WorkbenchError: ONNX Runtime does not run it.
    """
    try:
        session = inference_session(path, optimize=False)
        limit = LOOPS_END_S if has_loops(path) else None
        return [run_within(session, {session.get_inputs()[0].name: images}, limit)[0] for images in batches]
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        if isinstance(error, TookTooLong):
            raise
        why = error.why if isinstance(error, WorkbenchError) else str(error)
        raise WorkbenchError(
            f"ONNX Runtime cannot run {path}",
            why=why.strip().splitlines()[0],
            remedy="export the model with ONNX's own operators and an opset of 17 to 23",
        ) from error


def compare_outputs(
    before: Sequence[np.ndarray], after: Sequence[np.ndarray], path: Path, precision: str = "fp32"
) -> Parity:
    """Compare the logits of a clean graph with those of its original, batch by batch.

    Args:
        before: of the original.
        after: of the clean graph.
        path: the original, named in an error.
        precision: what the original computes in; 16 bits round more.

    Raises:
        WorkbenchError: they differ by more than rounding; ``path``, the original, is named.
    """
    for one, other in zip(before, after):
        error, largest = float(np.abs(other - one).max()), float(np.abs(one).max())
        refuse_unless(
            error < max(_tolerance(largest), HALF_TOLERANCE * largest if precision != "fp32" else 0),
            f"The clean-up changed what {path} computes",
            why=f"outputs differ by up to {error:.3g} on random images, where they reach {largest:.3g}",
            remedy="this is a fault of the workbench: please report it with the file; another opset may avoid it",
        )
    batches = tuple(map(len, before))
    one, other = np.concatenate(before), np.concatenate(after)
    agreement = float(np.mean(one.argmax(-1) == other.argmax(-1)))
    return Parity(float(np.abs(one - other).max()), agreement, len(one), batches)
