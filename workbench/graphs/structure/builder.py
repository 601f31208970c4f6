"""New nodes and constants in a graph, and a new tensor in the place of an old one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir


def constant(model: ir.Model, name: str, array: np.ndarray | np.generic | float) -> ir.Value:
    """A new initializer, under a name that no tensor has; types that NumPy lacks come from ml_dtypes."""
    made = {value.name for node in model.graph for value in node.outputs}
    taken = made.union(model.graph.initializers, (value.name for value in model.graph.inputs))
    while name in taken:
        name += "'"
    tensor = ir.tensor(np.asarray(array), name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    model.graph.register_initializer(value)
    return value


def node(
    kind: str,
    name: str,
    *inputs: ir.Value | None,
    outputs: int = 1,
    like: ir.Value | None = None,
    dtype: ir.DataType | None = None,
    **attributes,
) -> ir.Node:
    """A new node whose outputs carry its name, and the shape of ``like`` and the type where they are given."""
    shape = like.shape if like is not None else None
    tensor_type = ir.TensorType(dtype) if dtype is not None else None
    values = [ir.Value(name=f"{name}:{index}", shape=shape, type=tensor_type) for index in range(outputs)]
    return ir.node(kind, inputs, attributes or None, outputs=values, name=name)


def take_place(new: ir.Value, old: ir.Value, but: ir.Node | None = None) -> None:
    """Let ``new`` stand where ``old`` stood, under its name, as a graph's output too.

    Args:
        new: the tensor to read from now on.
        old: the tensor that was read.
        but: the node that goes on reading ``old``, because ``new`` is computed from it.
    """
    new.name, old.name = old.name, f"{old.name}:before"
    new.shape = old.shape
    new.type = None if old.dtype is None else ir.TensorType(old.dtype)  # not shared: a dtype may change
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    if but is not None:
        but.replace_input_with(0, old)


class Builder:
    """Adds nodes in front of one node.

    Args:
        model: the model that is changed.
        before: the node in front of which the new nodes stand.
        name: what the names of the new nodes begin with.

    Attributes:
        origin: the node whose line of code the new nodes carry; ``before``, to begin with.
        dtype: the NumPy type of numbers that become constants: that of the output of ``before``.
    """

    def __init__(self, model: ir.Model, before: ir.Node, name: str):
        self.model, self.before, self.name, self.origin = model, before, name, before
        self.dtype = (before.outputs[0].dtype or ir.DataType.FLOAT).numpy()

    def node(self, kind: str, role: str, *inputs: ir.Value, outputs: int = 1, **attributes) -> ir.Node:
        """Add a node with several outputs."""
        new = node(kind, f"{self.name}/{role}", *inputs, outputs=outputs, **attributes)
        new.metadata_props.update(self.origin.metadata_props)
        self.model.graph.insert_before(self.before, new)
        return new

    def op(self, kind: str, role: str, *inputs: ir.Value | float, **attributes) -> ir.Value:
        """Add a node and give its one output; a number among the inputs becomes a constant."""
        tensors = [
            v if isinstance(v, ir.Value) else self.constant(f"{role}/{i}", np.asarray(v, self.dtype))
            for i, v in enumerate(inputs)
        ]
        return self.node(kind, role, *tensors, **attributes).outputs[0]

    def constant(self, role: str, elements: np.ndarray) -> ir.Value:
        """Add a weight."""
        return constant(self.model, f"{self.name}/{role}", elements)

    def ints(self, role: str, numbers) -> ir.Value:
        """Add a shape, or any other list of whole numbers."""
        return self.constant(role, np.array(numbers, np.int64))

    def dense(self, role: str, x: ir.Value, weight, bias) -> ir.Value:
        """x @ weight + bias, each of which is a tensor of the graph or an array; the bias may be None."""
        weight, bias = (
            self.constant(f"{role}/{kind}", value) if isinstance(value, np.ndarray) else value
            for kind, value in (("weight", weight), ("bias", bias))
        )
        product = self.op("MatMul", role, x, weight)
        return product if bias is None else self.op("Add", f"{role}/bias", product, bias)
