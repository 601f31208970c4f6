"""Draws nodes into a graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from . import edit


class Pen:
    """Adds nodes in front of one node.

    Attributes:
        origin: the node whose line of code the new nodes carry; the one they stand in front of, to begin with.
        dtype: the type of the numbers that are drawn.
    """

    def __init__(self, model: ir.Model, before: ir.Node, name: str):
        self.model, self.before, self.name, self.origin = model, before, name, before
        self.dtype = before.outputs[0].dtype.numpy()

    def node(self, kind: str, role: str, *inputs: ir.Value, outputs: int = 1, **attributes) -> ir.Node:
        """A node with its outputs."""
        new = edit.node(kind, f"{self.name}/{role}", *inputs, outputs=outputs, **attributes)
        new.metadata_props.update(self.origin.metadata_props)
        self.model.graph.insert_before(self.before, new)
        return new

    def op(self, kind: str, role: str, *inputs: ir.Value | float, **attributes) -> ir.Value:
        """The one output of a node; a float among the inputs becomes a constant."""
        operands = [
            self.constant(f"{role}/{i}", np.asarray(v, self.dtype)) if isinstance(v, float) else v
            for i, v in enumerate(inputs)
        ]
        return self.node(kind, role, *operands, **attributes).outputs[0]

    def constant(self, role: str, elements: np.ndarray) -> ir.Value:
        """A weight."""
        return edit.constant(self.model, f"{self.name}/{role}", elements)

    def ints(self, role: str, numbers) -> ir.Value:
        """A shape, or any other list of whole numbers."""
        return self.constant(role, np.array(numbers, np.int64))

    def dense(self, role: str, x: ir.Value, weight, bias) -> ir.Value:
        """x @ weight + bias, each of which is a tensor of the graph or an array; the bias may be None."""
        weight, bias = (
            self.constant(f"{role}/{kind}", value) if isinstance(value, np.ndarray) else value
            for kind, value in (("weight", weight), ("bias", bias))
        )
        product = self.op("MatMul", role, x, weight)
        return product if bias is None else self.op("Add", f"{role}/bias", product, bias)
