"""An Einsum of two tensors that is a product of matrices with moved axes is written as one: all know MatMul."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from ..structure.builder import Builder, take_place
from ..structure.operators import einsum_terms
from ..structure.values import array, constant_operand, elements, input_of, only_reader, rank


class Product(NamedTuple):
    """The letters of an Einsum by what they do; each is in the order in which MatMul wants them.

    Attributes:
        batch: in both inputs and in the output.
        rows: in the first input and in the output.
        summed: in both inputs alone.
        columns: in the second input and in the output.
    """

    batch: str
    rows: str
    summed: str
    columns: str


def canonicalize(model: ir.Model) -> int:
    """Write every Einsum with one letter of rows, columns and sums as Transpose, MatMul and Transpose.

    The equation of an attention, ``bqhd,bkhd->bhqk``, is of this kind. Before a constant, several letters may be
    summed or be columns, as in the layers that Flax writes per head: ``bsd,dhk->bshk`` and ``bshk,hkd->bsd``.

    Returns:
        How many were written.
    """
    written = 0
    for node in list(model.graph):
        if node.op_type == "Einsum" and len(node.inputs) == 2:
            (left, right), output = _letters(node)
            product = _product(left, right, output)
            if product is not None:
                dense = array(node.inputs[1]) is not None and not product.batch
                write = _dense if dense else _batched
                written += write(model, node, product, left, right, output)
    if written:
        passes.RemoveUnusedNodesPass()(model)
        passes.ShapeInferencePass()(model)
    return written


def _letters(node: ir.Node) -> tuple[list[str], str]:
    """The terms of an equation, an ellipsis written out as letters where the ranks are known."""
    terms, output = einsum_terms(node)
    free = [letter for letter in "ZYXWVUTS" if not any(letter in term for term in terms)]
    for index, term in enumerate(terms):
        if "..." in term:
            hidden = (rank(node.inputs[index]) or 0) - len(term) + 3
            terms[index] = term.replace("...", "".join(free[:hidden][::-1]))
    hidden = (rank(node.outputs[0]) or 0) - len(output) + 3
    return terms, output.replace("...", "".join(free[:hidden][::-1]))


def _product(left: str, right: str, output: str) -> Product | None:
    if any(len(set(term)) < len(term) or "." in term for term in (left, right, output)):
        return None
    both = set(left) & set(right)
    found = Product(
        batch="".join(letter for letter in output if letter in both),
        rows="".join(letter for letter in left if letter not in both),
        summed="".join(letter for letter in left if letter in both and letter not in output),
        columns="".join(letter for letter in right if letter not in both),
    )
    return found if set(found.batch + found.rows + found.columns) == set(output) and found.summed else None


def _batched(model: ir.Model, node: ir.Node, product: Product, left: str, right: str, output: str) -> int:
    batch, rows, summed, columns = product
    if not len(rows) == len(summed) == len(columns) == 1:
        return 0
    build = Builder(model, node, node.name or "einsum")
    x = _transposed(build, "left", input_of(node, 0), left, batch + rows + summed)
    y = _transposed(build, "right", input_of(node, 1), right, batch + summed + columns)
    made = build.op("MatMul", "product", x, y)
    take_place(_transposed(build, "result", made, batch + rows + columns, output), node.outputs[0])
    return 1


def _dense(model: ir.Model, node: ir.Node, product: Product, left: str, right: str, output: str) -> int:
    _, rows, summed, columns = product
    weight = elements(node.inputs[1])
    if left != rows + summed or output != rows + columns or not rows or not columns:
        return 0
    sizes = dict(zip(right, weight.shape))
    matrix = weight.transpose([right.index(letter) for letter in summed + columns])
    inside = [sizes[letter] for letter in columns]
    result, bias = _biased(node.outputs[0], inside)
    build = Builder(model, node, node.name or "einsum")
    x = input_of(node, 0)
    if len(summed) > 1:
        x = build.op("Reshape", "joined", x, build.ints("joined/shape", [*[0] * len(rows), -1]))
    made = build.dense("product", x, np.ascontiguousarray(matrix.reshape(-1, math.prod(inside))), bias)
    if len(columns) > 1:
        made = build.op("Reshape", "apart", made, build.ints("apart/shape", [*[0] * len(rows), *inside]))
    take_place(made, result)
    return 1


def _biased(product: ir.Value, shape: list[int]) -> tuple[ir.Value, np.ndarray | None]:
    """The tensor behind the addition of a bias of this shape, and the bias as a vector; or the product itself."""
    reader = only_reader(product)
    pair = constant_operand(reader) if reader is not None and reader.op_type == "Add" else None
    if reader is None or pair is None or product.is_graph_output():
        return product, None
    bias = elements(pair[1])
    fits = bias.shape[-len(shape) :] == tuple(shape) and bias.size == math.prod(shape)
    return (reader.outputs[0], bias.ravel()) if fits else (product, None)


def _transposed(build: Builder, role: str, value: ir.Value, letters: str, wanted: str) -> ir.Value:
    if letters == wanted:
        return value
    return build.op("Transpose", role, value, perm=[letters.index(letter) for letter in wanted])
