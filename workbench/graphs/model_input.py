"""What a foreign file takes: batch, size, layout, channels and type, read off it or fixed from a Preprocessing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes

from ..errors import WorkbenchError, refuse_unless
from ..records import Preprocessing
from .structure.builder import constant
from .structure.values import array, elements, input_of, readers

#: Random images that a clean graph is compared with its original on, and the batches they are given in.
BATCHES = (1, 3)
#: The type of a file's input -> what it is called in a ``Preprocessing``; float16 is widened on import.
_INPUTS = {ir.DataType.FLOAT: "float32", ir.DataType.FLOAT16: "float32", ir.DataType.UINT8: "uint8"}
#: Red, green and blue in the luminance of a pixel: ITU-R BT.601, as Pillow's mode L.
LUMINANCE = (0.299, 0.587, 0.114)
TO_NCHW = (0, 3, 1, 2)


class ModelInput(NamedTuple):
    """The one input of a file.

    Attributes:
        batch: None where it is open.
        size: pixels along an edge.
        layout: ``NCHW`` or ``NHWC``.
        kind: ``float32`` or ``uint8`` (``records.models.INPUTS``).
        channels: 3 or 1.
        dtype: what the file itself takes.
        fixed: whether the size was open and is the Preprocessing's.
    """

    batch: int | None
    size: int
    layout: str
    kind: str
    channels: int
    dtype: np.dtype
    fixed: bool = False

    def random_images(self) -> list[np.ndarray]:
        """One array of images for each batch that original and import are compared in, as the file takes them."""
        rng, counts = np.random.default_rng(0), BATCHES if self.batch is None else (self.batch,)
        size, channels = self.size, self.channels
        shape = (channels, size, size) if self.layout == "NCHW" else (size, size, channels)
        if self.kind == "uint8":
            return [rng.integers(0, 256, (count, *shape), np.uint8) for count in counts]
        return [rng.standard_normal((count, *shape), np.float32).astype(self.dtype) for count in counts]

    def for_graph(self, images: np.ndarray) -> np.ndarray:
        """The same images as the imported graph takes them: three channels, float32 or uint8."""
        axis = 1 if self.layout == "NCHW" else 3
        wide = images if self.kind == "uint8" else images.astype(np.float32)
        return np.repeat(wide, 3, axis) if self.channels == 1 else wide

    def notes(self) -> Iterator[str]:
        """What the import changed about the input."""
        if self.fixed:
            yield f"The file leaves the image size open; it is fixed to the preprocessing's {self.size} pixels."
        if self.channels == 1:
            yield "The file takes one channel; the graph takes three and reads their luminance (ITU-R BT.601)."


def written_size(path: Path) -> int | None:
    """Pixels along an edge that a file's first input says, or None where it leaves them open or they differ."""
    inputs = onnx.load(str(path), load_external_data=False).graph.input
    axes = inputs[0].type.tensor_type.shape.dim if inputs else ()
    lengths = [axis.dim_value for axis in axes[1:] if axis.dim_value > 3]
    return lengths[0] if len(lengths) == 2 and lengths[0] == lengths[1] else None


def read_input(model: ir.Model, given: Preprocessing | None) -> ModelInput:
    """Read the one input of a model, and fix its open lengths, in place.

    Raises:
        WorkbenchError: it is no batch of square images, or its size is open and no Preprocessing tells it.
    """
    inputs = [value for value in model.graph.inputs if not value.is_initializer()]
    refuse_unless(
        len(inputs) == 1,
        "The model must have one input, the images",
        why=f"it has {len(inputs)}: {', '.join(str(value.name) for value in inputs)}",
        remedy="export the image encoder alone, with everything else fixed",
    )
    images = inputs[0]
    kind, shape = _INPUTS.get(images.dtype or ir.DataType.UNDEFINED, ""), list(images.shape or ())
    layout = _layout(images, given) if len(shape) == 4 else None
    refuse_unless(
        bool(kind) and layout is not None,
        "The model's input must be a batch of float32 or uint8 images with three channels, or with one",
        why=f"{images.name} is {images.dtype} of shape {images.shape}",
        remedy="export the model so that it takes (B, 3, H, W) or (B, H, W, 3), normalised or as pixels",
    )
    layout = layout or "NCHW"
    channels = shape[1 if layout == "NCHW" else 3]
    height, width = shape[2:] if layout == "NCHW" else shape[1:3]
    fixed = not isinstance(height, int) and not isinstance(width, int) and given is not None
    if fixed and given is not None:
        height = width = given.size
    if not isinstance(height, int) or height != width:
        raise WorkbenchError(
            "The model must take square images of one size",
            why=f"{images.name} has shape {images.shape}",
            remedy="give its size, import_onnx(..., preprocessing=Preprocessing(size=224)), or export it with one",
        )
    channels = channels if isinstance(channels, int) else 3
    _fix(model, images, layout, height, channels)
    batch = shape[0] if isinstance(shape[0], int) else None
    dtype = (images.dtype or ir.DataType.FLOAT).numpy()
    return ModelInput(batch, height, layout, kind, channels, dtype, fixed)


def _layout(images: ir.Value, given: Preprocessing | None) -> str | None:
    """By the axis that has three lengths or one; where both are open, by what reads the images first."""
    shape = list(images.shape or ())
    for channels in (3, 1):
        if channels in (shape[1], shape[3]):
            return "NCHW" if shape[1] == channels else "NHWC"
    if isinstance(shape[1], int) or isinstance(shape[3], int):
        return None
    first = next((node for node in readers(images) if node.op_type != "Shape"), None)
    if first is not None and first.op_type == "Transpose":
        return "NHWC" if tuple(first.attributes.get_ints("perm", ())) == TO_NCHW else None
    convolves = first is not None and first.op_type == "Conv"
    return "NCHW" if convolves else given.layout if given else None


def _fix(model: ir.Model, images: ir.Value, layout: str, size: int, channels: int) -> None:
    """Write the lengths into the input, and infer every other shape anew where one was open."""
    before = list(images.shape or ())
    inner = (channels, size, size) if layout == "NCHW" else (size, size, channels)
    if before[1:] == list(inner):
        return
    images.shape = ir.Shape([before[0], *inner])
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    passes.ShapeInferencePass()(model)


def preprocessing_for(given: Preprocessing | None, found: ModelInput) -> Preprocessing:
    """The preprocessing that was given, or vit_jax's, in the model's layout and of its input's type."""
    preprocessing = given or Preprocessing(size=found.size)
    refuse_unless(
        preprocessing.size == found.size,
        f"The model takes images of {found.size} pixels",
        why=f"the preprocessing makes {preprocessing.size}",
        remedy=f"give a Preprocessing of size {found.size}, or export the model for {preprocessing.size}",
    )
    return dataclasses.replace(preprocessing, layout=found.layout, input=found.kind)


def take_three_channels(model: ir.Model, found: ModelInput) -> None:
    """Let a model of one channel read three, in place: each kernel of its first convolution becomes three.

    On a grey image, whose channels are equal, nothing changes.

    Raises:
        WorkbenchError: something else than a convolution reads the images first.
    """
    images = next(value for value in model.graph.inputs if not value.is_initializer())
    values = [images]
    if found.layout == "NHWC":
        values = [node.outputs[0] for node in readers(images) if node.op_type == "Transpose"]
    convolutions = [node for value in values for node in readers(value)]
    if not convolutions or any(node.op_type != "Conv" or array(node.inputs[1]) is None for node in convolutions):
        raise WorkbenchError(
            "The model takes one channel and cannot be given three",
            why="something else than a convolution reads its images",
            remedy="export it so that it takes (B, 3, H, W) and reads their luminance itself",
        )
    for conv in convolutions:
        kernel = elements(conv.inputs[1])
        weights = np.array(LUMINANCE, kernel.dtype).reshape(1, 3, 1, 1)
        conv.replace_input_with(1, constant(model, f"{input_of(conv, 1).name}/rgb", kernel * weights))
    _fix(model, images, found.layout, found.size, 3)
