"""Normalisation inside the graph, so that its input takes pixels: uint8, four times fewer bytes than float32.

``(pixel - mean) / std`` goes into the patch embedding's own weights and bias. A Cast of the pixels is all that is
added: TensorRT 8.6 takes uint8 at a network's input alone, and only in front of a cast. The patch embedding pads
nothing, so that the fold is exact but for rounding.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..errors import WorkbenchError
from ..records import Preprocessing
from .structure.builder import constant, node
from .structure.values import array

UINT8, FLOAT = ir.DataType.UINT8, ir.DataType.FLOAT
#: The name of the Cast; naming gives the same to that of an imported graph.
CAST = "embedding/pixels"


def fold_normalisation(model: ir.Model, preprocessing: Preprocessing) -> None:
    """Let a float32 graph of normalised images take the pixels themselves, in place.

    Args:
        model: a clean graph, whose input goes to the patch embedding alone, through a change of layout at most.
        preprocessing: whose mean and std are folded in, on the 0...255 scale.

    Raises:
        WorkbenchError: the graph begins in another way.
    """
    images = model.graph.inputs[0]
    embedding = _patch_embedding(images)
    weight, bias = array(embedding.inputs[1]), array(embedding.inputs[2]) if len(embedding.inputs) > 2 else None
    if weight is None:
        raise _other_beginning("the weights of the patch embedding are computed in the graph")
    mean, std = (np.asarray(v, np.float64).reshape(1, 3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    scaled = weight.astype(np.float64) / std
    shift = (0 if bias is None else bias.astype(np.float64)) - (scaled * mean).sum(axis=(1, 2, 3))
    _set_constant(model, embedding, 1, scaled)
    _set_constant(model, embedding, 2, shift)
    _take_pixels(model, images)


def _patch_embedding(images: ir.Value) -> ir.Node:
    """The convolution that reads the images, through a Transpose at most."""
    users = [use.node for use in images.uses()]
    if len(users) == 1 and users[0].op_type == "Transpose":
        users = [use.node for use in users[0].outputs[0].uses()]
    if len(users) != 1 or users[0].op_type != "Conv":
        raise _other_beginning(f"its images go to {', '.join(node.op_type for node in users) or 'nothing'}")
    pads = users[0].attributes.get_ints("pads", ())
    if any(pads) or users[0].attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise _other_beginning("the patch embedding pads the images with zeros, which are no pixels")
    return users[0]


def _other_beginning(why: str) -> WorkbenchError:
    return WorkbenchError(
        "Normalisation cannot be folded into the graph",
        why=why,
        remedy='export it with input="float32", and normalise the images outside',
    )


def _set_constant(model: ir.Model, layer: ir.Node, index: int, values: np.ndarray) -> None:
    """Give one input of a layer other values; another reader of the same constant keeps the old ones."""
    old, values = layer.inputs[index] if index < len(layer.inputs) else None, values.astype(np.float32)
    if old is not None and len(old.uses()) == 1:
        old.const_value = ir.tensor(values, name=old.name)
        return
    layer.resize_inputs(max(index + 1, len(layer.inputs)))
    layer.replace_input_with(index, constant(model, f"{layer.name}/folded", values))


def _take_pixels(model: ir.Model, images: ir.Value) -> None:
    """Make the input uint8, and cast it to float32 for its readers."""
    readers = [(use.node, use.idx) for use in images.uses()]
    cast = node("Cast", CAST, images, like=images, dtype=FLOAT, to=int(FLOAT))
    cast.outputs[0].name = f"{CAST}:out"
    model.graph.insert_before(readers[0][0], cast)
    for reader, index in readers:
        reader.replace_input_with(index, cast.outputs[0])
    images.type = ir.TensorType(UINT8)
