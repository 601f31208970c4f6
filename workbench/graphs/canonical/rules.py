"""Rewrite rules, on onnxscript's rewriter: from what exporters write to the operators that were meant.

In each rule ``pattern`` is what is looked for, ``rewrite`` gives what takes its place, and ``check`` says whether
both compute the same.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import pattern
from onnxscript.rewriter.rules.fusion import _layer_norm

from ..structure.operators import einsum_terms
from ..structure.values import array, elements, number, optional_input

RuleClass = pattern.RewriteRuleClassBase


class EinsumIsMatMul(RuleClass):
    """``Einsum("abc,cd->abd")``, which jax2onnx writes for ``x @ w``, is a MatMul."""

    def pattern(self, op, x, w):
        """One Einsum of two inputs."""
        return op.Einsum(x, w, _allow_other_attributes=True, _outputs=["y"])

    def check(self, context, x, w, y, **_):
        """Whether the last axis of x meets the first of w and nothing else is summed."""
        (left, right), output = einsum_terms(y.producer())
        product = len(right) == 2 and left.endswith(right[0]) and output == left[:-1] + right[1]
        return product and len(set(left + right)) == len(left) + 1

    def rewrite(self, op, x, w, **_):
        """A MatMul."""
        return op.MatMul(x, w)


class GemmIsMatMulAdd(RuleClass):
    """A Gemm with a constant weight is a MatMul, and an Add where the bias is not zero."""

    def pattern(self, op, x, w):
        """One Gemm, with or without a bias."""
        return op.Gemm(x, w, _allow_other_inputs=True, _allow_other_attributes=True, _outputs=["y"])

    def check(self, context, x, w, y, **_):
        """Whether the weight is constant, x is not transposed, and nothing is scaled."""
        gemm = y.producer()
        alpha, beta = (gemm.attributes.get_float(name, 1.0) for name in ("alpha", "beta"))
        bias = optional_input(gemm, 2)
        values = array(bias)
        absent = bias is None or beta == 0 or (values is not None and not values.any())
        self.bias = None if absent else bias
        plain = alpha == 1 and (absent or beta == 1) and not gemm.attributes.get_int("transA", 0)
        return plain and array(w) is not None

    def rewrite(self, op, x, w, y, **_):
        """MatMul and Add; a weight that was read transposed is stored transposed."""
        if y.producer().attributes.get_int("transB", 0):
            w = op.initializer(ir.tensor(np.ascontiguousarray(elements(w).T)), name=f"{w.name}/transposed/{y.name}")
        product = op.MatMul(x, w)
        return product if self.bias is None else op.Add(product, self.bias)


class FlatProduct(RuleClass):
    """A product between two Reshapes that only put the leading axes together and apart again needs neither."""

    def __init__(self, bias: bool):
        super().__init__(name=f"FlatProduct(bias={bias})")
        self.bias = bias

    def pattern(self, op, x, w, flat, shape, b=None):
        """Reshape, MatMul, perhaps Add, Reshape."""
        product = op.MatMul(op.Reshape(x, flat, _allow_other_attributes=True), w)
        if self.bias:
            product = op.Add(product, b)
        return op.Reshape(product, shape, _allow_other_attributes=True, _outputs=["y"])

    def check(self, context, x, w, y, b=None, **_):
        """Whether the result has the shape that the product of x itself would have."""
        weight, bias = array(w), array(b)
        if weight is None or weight.ndim != 2 or x.shape is None or y.shape is None or (self.bias and bias is None):
            return False
        return x.shape[-1] == weight.shape[0] and list(y.shape) == [*x.shape[:-1], weight.shape[1]]

    def rewrite(self, op, x, w, b=None, **_):
        """MatMul, and Add."""
        product = op.MatMul(x, w)
        return op.Add(product, b) if self.bias else product


class MeanOfSum(RuleClass):
    """A sum divided by the number of its terms is a mean."""

    def pattern(self, op, x, axes, count):
        """ReduceSum, Div."""
        return op.Div(op.ReduceSum(x, axes, _allow_other_attributes=True, _outputs=["sum"]), count)

    def check(self, context, x, axes, count, **_):
        """Whether the divisor is the product of the summed dimensions."""
        axes, count = array(axes), array(count)
        if axes is None or count is None or count.size != 1 or x.shape is None:
            return False
        dimensions = [d for axis in axes.ravel() if isinstance(d := x.shape[int(axis)], int)]
        return len(dimensions) == axes.size and float(count.item()) == np.prod(dimensions)

    def rewrite(self, op, x, axes, sum, **_):
        """A ReduceMean, which took its axes as an attribute before opset 18."""
        keep = sum.producer().attributes.get_int("keepdims", 1)
        if sum.producer().graph.opset_imports[""] < 18:
            return op.ReduceMean(x, axes=[int(axis) for axis in elements(axes).ravel()], keepdims=keep)
        return op.ReduceMean(x, axes, keepdims=keep)


class GatherOfTranspose(RuleClass):
    """One slice along an axis that was moved to the front is a slice along the axis where it lies."""

    def pattern(self, op, x, index):
        """Transpose, Gather."""
        moved = op.Transpose(x, _allow_other_attributes=True, _outputs=["moved"])
        return op.Gather(moved, index, _allow_other_attributes=True, _outputs=["y"])

    def check(self, context, index, moved, y, **_):
        """Whether one element is taken and the other axes stay in order."""
        permutation, position = moved.producer().attributes.get_ints("perm"), array(index)
        if permutation is None or position is None or position.ndim:
            return False
        self.axis = permutation[y.producer().attributes.get_int("axis", 0)]
        rest = [axis for axis in permutation if axis != self.axis]
        return rest == sorted(rest)

    def rewrite(self, op, x, index, **_):
        """A Gather."""
        return op.Gather(x, index, axis=self.axis)


class GatherOfSlice(RuleClass):
    """A slice of length 1 whose axis is squeezed away is a Gather of one index."""

    def pattern(self, op, x, starts, ends, axes, squeezed):
        """Slice, Squeeze."""
        return op.Squeeze(op.Slice(x, starts, ends, axes), squeezed, _outputs=["y"])

    def check(self, context, x, starts, ends, axes, squeezed, **_):
        """Whether one axis is cut to one element and the others are whole."""
        cuts = [v.ravel().tolist() for each in (starts, ends, axes) if (v := array(each)) is not None]
        dropped = number(squeezed)
        if len(cuts) < 3 or dropped is None or x.shape is None:
            return False
        self.axis = int(dropped) % len(x.shape)
        taken = [(start, end) for start, end, axis in zip(*cuts) if axis % len(x.shape) == self.axis]
        others = [
            (start, end, x.shape[axis]) for start, end, axis in zip(*cuts) if axis % len(x.shape) != self.axis
        ]
        self.index = taken[-1][0] if taken else -1
        whole = all(start == 0 and isinstance(size, int) and end >= size for start, end, size in others)
        return whole and self.index >= 0 and taken[-1][1] == self.index + 1

    def rewrite(self, op, x, y, **_):
        """A Gather."""
        index = op.initializer(ir.tensor(np.int64(self.index)), name=f"{y.name}/index")
        return op.Gather(x, index, axis=self.axis)


class LayerNormBias(_layer_norm.LayerNormBiasFusion):
    """onnxscript's rule that puts a bias into its LayerNorm, for vectors only: a residual may be added too."""

    def check(self, context, bias, **_):
        """Whether what is added is a constant vector."""
        values = array(bias)
        return values is not None and values.ndim == 1


class ScaledDense(RuleClass):
    """A dense layer whose result is multiplied by a constant per channel (LayerScale) is another dense layer."""

    def pattern(self, op, x, w, b, scale):
        """MatMul, Add, Mul."""
        return op.Mul(op.Add(op.MatMul(x, w), b, _outputs=["y"]), scale, _outputs=["scaled"])

    def check(self, context, w, b, scale, y, scaled, **_):
        """Whether weight, bias and scale are constant, and the scale has one element per channel."""
        weight, bias, factor = array(w), array(b), array(scale)
        if weight is None or bias is None or factor is None or weight.ndim != 2 or len(y.uses()) != 1:
            return False
        return factor.ndim >= 1 and factor.size == weight.shape[1] == factor.shape[-1] == bias.size

    def rewrite(self, op, x, w, b, scale, scaled, **_):
        """MatMul and Add with scaled weights."""
        factor = elements(scale).ravel()
        weight = op.initializer(ir.tensor(elements(w) * factor), name=f"{scaled.name}/weight")
        bias = op.initializer(ir.tensor(elements(b).ravel() * factor), name=f"{scaled.name}/bias")
        return op.Add(op.MatMul(x, weight), bias)


#: In the order in which they are tried at each node. Additions and products are matched either way round.
RULES = pattern.RewriteRuleSet(
    [
        EinsumIsMatMul.rule(),
        GemmIsMatMulAdd.rule(),
        FlatProduct.rule(bias=False),
        FlatProduct.rule(bias=True),
        MeanOfSum.rule(),
        GatherOfTranspose.rule(),
        GatherOfSlice.rule(),
        LayerNormBias.rule(),
        ScaledDense.rule(),
    ],
    commute=True,
)
