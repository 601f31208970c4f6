"""Normalisation inside the graph, so that its input takes pixels: uint8, four times fewer bytes than float32.

``(pixel - mean) / std`` goes into the patch embedding's own weights and bias. A Cast of the pixels is all that is
added: TensorRT 8.6 takes uint8 at a network's input alone, and only in front of a cast. The patch embedding pads
nothing, so the fold is exact but for rounding.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..errors import WorkbenchError
from ..records import Preprocessing
from .structure.builder import node
from .structure.values import array, elements, only_reader

UINT8, FLOAT = ir.DataType.UINT8, ir.DataType.FLOAT
#: The name of the Cast; naming gives the same to that of an imported graph.
CAST = "embedding/pixels"
#: How a graph begins after the clean-up (``canonical.patches``).
BEGINNING = ("Reshape", "Transpose", "Reshape", "MatMul", "Add")


def fold_normalisation(model: ir.Model, preprocessing: Preprocessing) -> None:
    """Let a float32 graph of normalised images take the pixels themselves, in place.

    Args:
        model: an exported graph after the clean-up: NHWC images, cut into patches, go to one product with a bias.
        preprocessing: whose mean and std are folded in, on the 0...255 scale.

    Raises:
        WorkbenchError: the graph begins in another way.
    """
    images = model.graph.inputs[0]
    weight, bias = _patch_embedding(images)
    matrix = elements(weight)
    column = (len(matrix), 1)  # the channel is the last index of a patch's row in the images
    mean, std = (np.resize(np.asarray(v, np.float64), column) for v in (preprocessing.mean, preprocessing.std))
    scaled = matrix / std
    _set_values(weight, scaled)
    _set_values(bias, elements(bias) - (scaled * mean).sum(axis=0))
    _take_pixels(model, images)


def _patch_embedding(images: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The weight (K, D) and the bias (D,) of the product that reads the images, cut into patches."""
    value, path = images, []
    while (reader := only_reader(value)) is not None and len(path) < len(BEGINNING):
        path.append(reader)
        value = reader.outputs[0]
    constants = [step.inputs[1] for step in path[-2:]]
    found = tuple(step.op_type for step in path)
    if found != BEGINNING or any(array(value) is None or len(value.uses()) > 1 for value in constants):
        raise WorkbenchError(
            "Normalisation cannot be folded into the graph",
            why=f"its images go to {', '.join(found) or 'several operators'} instead of {', '.join(BEGINNING)}",
            remedy='export it with input="float32", and normalise the images outside',
        )
    return constants[0], constants[1]


def _set_values(value: ir.Value, values: np.ndarray) -> None:
    value.const_value = ir.tensor(values.astype(np.float32), name=value.name)


def _take_pixels(model: ir.Model, images: ir.Value) -> None:
    """Make the input uint8, and cast it to float32 for its reader."""
    (reader, index), *_ = images.uses()
    cast = node("Cast", CAST, images, like=images, dtype=FLOAT, to=int(FLOAT))
    cast.outputs[0].name = f"{CAST}:out"
    model.graph.insert_before(reader, cast)
    reader.replace_input_with(index, cast.outputs[0])
    images.type = ir.TensorType(UINT8)
