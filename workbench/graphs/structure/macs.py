"""The multiply-accumulates of a node, counted from the shapes of its tensors."""

from __future__ import annotations

import math

import onnx_ir as ir

from .operators import CONVOLUTIONS, PRODUCTS, UNCOUNTED_PRODUCTS, einsum_terms, factors, is_standard
from .values import inputs_of, per_image


def macs(node: ir.Node) -> int | None:
    """Multiply-accumulates, for one image where the file leaves the batch open; None where they are not known."""
    if node.op_type == "ConvTranspose":
        image, kernel = factors(node)
        return None if image.shape is None else math.prod(per_image(image)) * math.prod(per_image(kernel)[1:])
    if node.op_type not in PRODUCTS:
        return None if node.op_type in UNCOUNTED_PRODUCTS or not is_standard(node) else 0
    if any(value.shape is None for value in (node.outputs[0], *factors(node))):
        return None
    if node.op_type == "Einsum":
        return _einsum_macs(node)
    first, second = (per_image(value) for value in factors(node))
    written = math.prod(per_image(node.outputs[0]))
    if node.op_type in CONVOLUTIONS:
        return written * math.prod(second[1:])
    if node.op_type == "Attention":  # of two products; the second input holds a row for each key
        return 2 * written * second[-2] if len(second) >= 3 else None
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transA", 0)
    return written * first[0 if transposed else -1] if first else None


def _einsum_macs(node: ir.Node) -> int | None:
    """The sizes of all letters multiplied, as each is a loop; the output gives the sizes behind an ellipsis."""
    read, written = einsum_terms(node)
    sizes: dict[str, int] = {}
    for letters, value in zip(read, inputs_of(node)):
        shape = per_image(value)
        before, dots, after = letters.partition("...")
        if not dots and len(letters) != len(shape):
            return None
        sizes |= {**dict(zip(before, shape)), **dict(zip(after[::-1], shape[::-1]))}
    if not written:
        return math.prod(sizes.values())
    inner = math.prod(size for letter, size in sizes.items() if letter not in written)
    return inner * math.prod(per_image(node.outputs[0]))
