"""The reference: the model whose top class of every image an engine's predictions are compared with."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from ..backends import open_engine
from ..backends.base import Session
from ..digests import digest
from ..errors import refuse_unless
from ..progress import Progress
from ..records import Batches, Engine, Graph, Recipe, Variant
from ..workspace import check_artefact
from .accuracy import check_logits, predict
from .subject import Subject

#: Predictions of FP32 graphs, because every engine of a graph is compared with the same ones; the oldest go first.
_predictions: OrderedDict[str, np.ndarray] = OrderedDict()
_KEPT = 16


def reference_classes(
    reference, subject: Subject, graph: Graph | None, images: np.ndarray, batch: int, progress: Progress
) -> tuple[np.ndarray, str]:
    """The reference's top class of every image, and what the reference is called.

    Args:
        reference: None for the FP32 graph on ONNX Runtime, an Engine, a Session that takes what the subject takes,
            logits (N, classes), or classes (N,).
        subject: what is compared with it.
        graph: the subject's graph; without one, a reference of None means no comparison.
        images: (N, H, W, 3).
        batch: images per call of a Session.
        progress: gets the stage ``reference``, in images.
    """
    if isinstance(reference, Engine):
        return _of_engine(reference, images, progress), reference.label
    if isinstance(reference, Session):
        found = predict(subject.logits(reference), images, batch=batch, stage="reference", progress=progress)
        return found.classes, type(reference).__name__
    if reference is not None:
        return check_reference_array(reference, len(images)), "given classes"
    if graph is None:
        return np.empty(0, np.int64), ""
    return _of_graph(graph, images, progress), "fp32 on onnxruntime"


def check_reference_array(reference, count: int) -> np.ndarray:
    """Classes (N,) from an array of classes or of logits (N, classes)."""
    array = np.asarray(reference)
    is_logits = array.ndim == 2 and np.issubdtype(array.dtype, np.floating)
    is_classes = array.ndim == 1 and np.issubdtype(array.dtype, np.integer)
    refuse_unless(
        (is_logits or is_classes) and len(array) == count,
        "The reference does not fit the images",
        why=f"there are {count} images; the reference is {array.dtype} {array.shape}",
        remedy="give logits (N, classes) as floats, classes (N,) as whole numbers, an Engine, a Session, or None",
    )
    if is_logits:
        check_logits(array)
    return array.argmax(axis=1) if is_logits else array.astype(np.int64)


def _of_engine(engine: Engine, images: np.ndarray, progress: Progress) -> np.ndarray:
    subject = Subject.of(engine)
    images = subject.checked_images(images)
    with open_engine(engine) as session, subject.exact(session) as exact:
        return predict(
            subject.logits(exact),
            images,
            batch=engine.batches.opt,
            at_least=engine.batches.min,
            stage="reference",
            progress=progress,
        ).classes


def _of_graph(graph: Graph, images: np.ndarray, progress: Progress) -> np.ndarray:
    key = digest(graph.digest, graph.path, images)
    if key not in _predictions:
        check_artefact(graph.path)
        _predictions[key] = _of_engine(_fp32_engine(graph), images, progress)
        while len(_predictions) > _KEPT:
            _predictions.popitem(last=False)
    return _predictions[key]


def _fp32_engine(graph: Graph) -> Engine:
    """The graph's own file as an engine, which needs no build."""
    variant = Variant(
        path=graph.path,
        digest=graph.digest,
        graph=graph,
        recipe=Recipe(),
        opset=graph.opset,
        runtimes=("onnxruntime",),
    )
    batches = Batches(graph.batch, graph.batch, graph.batch) if graph.batch else Batches(1, 32, 32)
    return Engine(backend="onnxruntime", path=graph.path, variant=variant, batches=batches, run_id="reference")
