"""A session as a function from images to logits, in the batches that its engine takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..backends import open_streams
from ..backends.base import Session
from ..datasets import normalise
from ..datasets.model_input import check_model_input, in_layout
from ..records import Batches, Engine, Preprocessing, Recipe, Variant


def original_engine(engine: Engine, path: Path | None = None) -> Engine:
    """The FP32 model that an engine was made from, as an engine of ONNX Runtime, which needs no build.

    Args:
        engine: the engine.
        path: where the model lies now; None is the graph's own file.
    """
    graph = replace(engine.variant.graph, path=path or engine.variant.graph.path)
    variant = Variant(graph.path, graph.digest, graph, Recipe(), graph.opset, ("onnxruntime",))
    static = graph.batch
    batches = Batches(static, static, static) if static else Batches(1, engine.batches.opt, engine.batches.max)
    return Engine("onnxruntime", graph.path, variant, batches, run_id="original")


def open_original(engine: Engine) -> Session:
    """The original model of an engine, opened on ONNX Runtime in this process.

    Raises:
        WorkbenchError: ONNX Runtime is missing or does not load the model.
    """
    return open_streams(original_engine(engine), 1)[0]


class Classifier:
    """A session of an engine that takes any number of images from 1 to ``engine.batches.max``."""

    def __init__(self, session: Session, engine: Engine):
        self.session, self.batches, graph = session, engine.batches, engine.variant.graph
        self._input, self._output = graph.input_name, graph.output_name
        self._layout = graph.preprocessing.layout

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits (n, classes) float32 of normalised images (n, H, W, 3)."""
        feeds = {self._input: in_layout(padded(images, self.batches.min), self._layout)}
        return np.asarray(self.session.run(feeds)[self._output][: len(images)], np.float32)


def padded(images: np.ndarray, at_least: int) -> np.ndarray:
    """Images, the last one repeated where there are fewer than ``at_least``."""
    missing = at_least - len(images)
    return images if missing <= 0 else np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])


def model_input(images, preprocessing: Preprocessing) -> np.ndarray:
    """Images as the service takes them, checked and normalised: (N, H, W, 3) float32.

    Args:
        images: normalised float32, or uint8 pixels of the model's size.
        preprocessing: the model's.

    Raises:
        WorkbenchError: another type, shape or size; no image; or numbers that are not finite.
    """
    if getattr(images, "dtype", None) == np.uint8:
        images = normalise(images, replace(preprocessing, layout="NHWC"))
    return check_model_input(images, preprocessing.size, preprocessing.layout)
