"""Normalisation inside the graph, so that its input takes pixels: uint8, four times fewer bytes than float32.

A Cast of the pixels is followed by a Sub of the mean; 1 / std goes into the patch embedding's own weights. The
mean is not folded into the bias: the products of pixels up to 255 would be large numbers that the bias takes away
again, and of what is left FP16 would round a tenth. TensorRT 8.6 takes uint8 at a network's input alone, and only
in front of a cast.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..errors import WorkbenchError
from ..records import Preprocessing
from .structure.builder import constant, node
from .structure.values import array, elements, only_reader

UINT8, FLOAT = ir.DataType.UINT8, ir.DataType.FLOAT
#: The names of the Cast and the Sub; naming gives the same to those of an imported graph.
CAST, CENTRED = "embedding/pixels", "embedding/centred"
#: How a graph begins after the clean-up (``canonical.patches``).
BEGINNING = ("Reshape", "Transpose", "Reshape", "MatMul")


def fold_normalisation(model: ir.Model, preprocessing: Preprocessing) -> None:
    """Let a float32 graph of normalised images take the pixels themselves, in place.

    Args:
        model: an exported graph after the clean-up: NHWC images, cut into patches, go to one product.
        preprocessing: its mean and std, on the 0...255 scale.

    Raises:
        WorkbenchError: the graph begins in another way.
    """
    images = model.graph.inputs[0]
    weight = _patch_embedding(images)
    matrix = elements(weight)  # of a row of patches the channel is the last index
    std = np.resize(np.asarray(preprocessing.std, np.float64), (len(matrix), 1))
    weight.const_value = ir.tensor((matrix / std).astype(np.float32), name=weight.name)
    _take_pixels(model, images, np.asarray(preprocessing.mean, np.float32))


def _patch_embedding(images: ir.Value) -> ir.Value:
    """The weight (K, D) of the product that reads the images, cut into patches."""
    value, path = images, []
    while (reader := only_reader(value)) is not None and len(path) < len(BEGINNING):
        path.append(reader)
        value = reader.outputs[0]
    found = tuple(step.op_type for step in path)
    weight = path[-1].inputs[1] if found == BEGINNING else None
    if weight is None or array(weight) is None or len(weight.uses()) > 1:
        raise WorkbenchError(
            "Normalisation cannot be folded into the graph",
            why=f"its images go to {', '.join(found) or 'several operators'} instead of {', '.join(BEGINNING)}",
            remedy='export it with input="float32", and normalise the images outside',
        )
    return weight


def _take_pixels(model: ir.Model, images: ir.Value, mean: np.ndarray) -> None:
    """Make the input uint8, and give its reader the pixels as float32, less the mean (3,)."""
    (reader, index), *_ = images.uses()
    cast = node("Cast", CAST, images, like=images, dtype=FLOAT, to=int(FLOAT))
    centred = node(
        "Sub", CENTRED, cast.outputs[0], constant(model, f"{CENTRED}/mean", mean), like=images, dtype=FLOAT
    )
    for each in (cast, centred):
        each.outputs[0].name = f"{each.name}:out"
        model.graph.insert_before(reader, each)
    reader.replace_input_with(index, centred.outputs[0])
    images.type = ir.TensorType(UINT8)
