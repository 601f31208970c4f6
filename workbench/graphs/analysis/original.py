"""What the ONNX file that a graph was imported from computes of the graph's images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from ...datasets.preprocessing import as_float
from ...records import Graph
from ...workspace import check_artefact
from ..parity import outputs_of
from ..quantization.images import BATCH, graph_input


def logits_of_file(graph: Graph, path: Path, images: np.ndarray) -> np.ndarray:
    """What the original of an imported graph computes of the graph's images, float32 (N, classes).

    Args:
        graph: the import, which says how large a batch is, and of which layout.
        path: the original file; one of a single channel gets the channels' mean, one of 16 bits 16-bit images.
        images: (N, H, W, 3), normalised, or as the graph takes them.

    Raises:
        WorkbenchError: the images do not fit, or ONNX Runtime does not run the file.
    """
    check_artefact(path)
    if graph.preprocessing.input == "float32":
        images = as_float(images, graph.preprocessing)
    x, size = graph_input(graph, images), graph.batch or BATCH
    taken = onnx.load(str(path), load_external_data=False).graph.input[0].type.tensor_type
    axis = 1 if graph.preprocessing.layout == "NCHW" else 3
    if taken.shape.dim[axis].dim_value == 1:
        x = x.mean(axis=axis, keepdims=True, dtype=np.float32).astype(x.dtype)
    rows = -(-len(x) // size) * size if graph.batch else len(x)
    x = np.concatenate([x, np.repeat(x[-1:], rows - len(x), axis=0)])
    x = x.astype(onnx.helper.tensor_dtype_to_np_dtype(taken.elem_type))
    found = outputs_of(path, [x[start : start + size] for start in range(0, rows, size)])
    return np.concatenate(found)[: len(images)].astype(np.float32)


def computes_in_half(path: Path) -> bool:
    """Whether an ONNX file holds weights of 16 bits, so that it rounds more than its float32 import."""
    kept = onnx.load(str(path), load_external_data=False).graph.initializer
    return any(tensor.data_type in (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16) for tensor in kept)
