"""The activations of a model: the named tensors that it computes, a few images at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from ...backends.onnxruntime import inference_session
from ...files import scratch_folder
from ...measuring.accuracy import check_logits
from ...progress import Progress
from ...records import Graph
from .. import model_file
from .images import BATCH, Images, in_batches


def open_model(model: ir.Model, outputs: Sequence[str]):
    """An ONNX Runtime session that computes these tensors of a model and nothing else; the model is consumed.

    QuantizeLinear and DequantizeLinear run as they are written, not fused into 8-bit products: what is observed is
    the error of rounding, not that of one CPU's kernels.
    """
    computed = {value.name: value for node in model.graph for value in node.outputs}
    model.graph.outputs[:] = [computed[name] for name in outputs]
    with scratch_folder() as folder:
        path = model_file.save(model, folder)
        return inference_session(path, fuse_qdq=False)


def batches(
    graph: Graph,
    session,
    images: np.ndarray | Images,
    progress: Progress,
    stage: str,
    size: int = BATCH,
    given: Mapping[str, np.ndarray] | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """A session's input and outputs, by name, a few images at a time; ``given`` holds more inputs, row by row.

    A graph of a static batch is fed whole batches, and the rows of padding are cut off again.
    """
    names, size = [output.name for output in session.get_outputs()], graph.batch or size
    done = 0
    for batch in in_batches(images, size):
        progress(stage, done, len(images))
        rows = slice(done, done + len(batch))
        feeds = {name: value[rows] for name, value in (given or {}).items()} | {graph.input_name: batch}
        if graph.batch is not None:
            feeds = {name: _pad(value, size) for name, value in feeds.items()}
        values, padded = dict(zip(names, session.run(names, feeds))), feeds[graph.input_name]
        values[graph.input_name] = padded
        yield {name: _own_rows(value, len(batch), len(padded)) for name, value in values.items()}
        done += len(batch)
    progress(stage, done, len(images))


def logits_of(
    graph: Graph, model: ir.Model, images: np.ndarray, progress: Progress, size: int = BATCH
) -> np.ndarray:
    """The logits (N, classes) of a version of a graph, which is consumed; the stage is ``classify``.

    Raises:
        WorkbenchError: a logit is not finite.
    """
    session = open_model(model, [graph.output_name])
    parts = [values[graph.output_name] for values in batches(graph, session, images, progress, "classify", size)]
    logits = np.concatenate(parts)
    check_logits(logits)
    return logits


def _pad(batch: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])


def _own_rows(value: np.ndarray, images: int, padded: int) -> np.ndarray:
    """The rows that belong to real images; a graph may fold other axes into the batch's."""
    return value[: len(value) // padded * images]
