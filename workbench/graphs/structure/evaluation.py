"""A few nodes computed on given numbers, by ONNX's reference implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from .values import inputs_of


def evaluate(node: ir.Node, inputs: Sequence[np.ndarray], output: int = 0) -> np.ndarray:
    """One output of a node, computed of one array for each of its inputs."""
    names = [str(value.name) for value in inputs_of(node)]
    return evaluate_all([node], dict(zip(names, inputs)), str(node.outputs[output].name))


def evaluate_all(nodes: Sequence[ir.Node], inputs: Mapping[str, np.ndarray], output: str) -> np.ndarray:
    """The tensor ``output`` of nodes of one graph, in their order; ``inputs`` are what none of them computes."""
    graph = nodes[0].graph
    if graph is None:
        raise ValueError(f"{nodes[0].name} is part of no graph")
    body = onnx.helper.make_graph(
        [ir.serde.serialize_node(node) for node in nodes],
        "part",
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in inputs],
        [onnx.helper.make_value_info(output, onnx.TypeProto())],
    )
    opset = onnx.helper.make_opsetid("", graph.opset_imports[""])
    (result,) = ReferenceEvaluator(onnx.helper.make_model(body, opset_imports=[opset])).run([output], dict(inputs))
    return np.asarray(result)
