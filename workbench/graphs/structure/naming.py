"""Names by place: nodes, the tensors between places, and weights."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from ...places import OUTPUT
from .operators import MATRIX_PRODUCTS, name_of
from .placement import find_paths
from .values import input_of, inputs_of, is_dense, producer_of, rank

#: The name of a graph whose nodes are named by place.
CLEAN = "vit"
#: Place -> the operators that take the place's own name; other nodes of the place add a part to it.
MAIN = {
    "norm1": ("LayerNormalization",),
    "norm2": ("LayerNormalization",),
    "norm": ("LayerNormalization",),
    "attention/split": ("Split",),
    "attention/scale": ("Mul", "Div"),
    "attention/softmax": ("Softmax", "Attention"),
    "attention/merge": ("Reshape",),
    "mlp/gelu": ("Gelu",),
    "mlp/activation": ("Relu", "Silu", "Swish", "HardSwish"),
    "residual1": ("Add",),
    "residual2": ("Add",),
    "pool": ("Gather", "ReduceMean"),
    "embedding": (),
}
#: (place, operator) -> the part that a node adds to its place; else the operator in small letters.
PARTS = {
    ("attention/split", "Reshape"): "heads",
    ("attention/split", "Transpose"): "order",
    ("attention/merge", "Transpose"): "order",
    ("embedding", "Cast"): "pixels",
    ("embedding", "Sub"): "centred",
    ("embedding", "Conv"): "patches",
    ("embedding", "MatMul"): "patches",
    ("embedding", "Transpose"): "order",
    ("embedding", "Reshape"): "flatten",
    ("embedding", "Pad"): "tokens",
    ("embedding", "Add"): "position",
}
#: Place -> the tensor that leaves it, where that is not named after the place: as the JAX model's intermediates.
LEAVING = {
    "attention/context": "attention/context/heads",
    "attention/merge": "attention/context",
    "residual2": OUTPUT,
    "embedding": f"embedding/{OUTPUT}",
    "norm": f"norm/{OUTPUT}",
    "pool": f"pool/{OUTPUT}",
    "pre_logits": "pre_logits/tanh",
    "head": f"head/{OUTPUT}",
}
QKV = ("q", "k", "v")
#: A batch of images has this many axes; cut into a grid of patches it has more.
IMAGE_RANK = 4
#: Operator -> what its constant inputs are called.
OPERANDS = {
    "MatMul": ("weight", "weight"),
    "Gemm": ("weight", "weight", "bias"),
    "Conv": ("", "weight", "bias"),
    "LayerNormalization": ("", "scale", "bias"),
    "Reshape": ("", "shape"),
    "Split": ("", "sizes"),
    "Gather": ("", "index"),
    "Pad": ("", "pads", "value"),
    "ReduceMean": ("", "axes"),
}


def name(model: ir.Model) -> dict[ir.Node, str]:
    """Name everything that has a place; what has none keeps its name.

    Returns:
        The place of each node, as ``placement.find_paths`` gives it.
    """
    found = find_paths(model)
    places = {node: found[node] for node in model.graph if node in found}
    taken = Counter(value.name for value in (*model.graph.inputs, *model.graph.outputs))
    for node in model.graph:  # out of the way, so that no name is given twice
        if node in places:
            for index, value in enumerate(node.outputs):
                if not value.is_graph_output():
                    value.name = f":{id(node)}:{index}"
    names: Counter = Counter()
    for node, place in places.items():
        node.name = _unique(_node_name(node, place), names)
    for node, place in places.items():
        _name_outputs(node, place, places, taken)
    _name_constants(places, taken)
    return places


def _split(place: str) -> tuple[str, str]:
    """``block03/`` and ``attention/qkv``, as in a pool by attention; nothing and the place itself elsewhere."""
    block, slash, inside = place.partition("/")
    return (f"{block}{slash}", inside) if slash and inside else ("", place)


def _node_name(node: ir.Node, place: str) -> str:
    _, inside = _split(place)
    if node.op_type in MAIN.get(inside, MATRIX_PRODUCTS):
        return place
    if inside not in MAIN and _adds_constant(node):
        return f"{place}/bias"
    if inside == "embedding" and _adds_constant(node) and is_dense(producer_of(input_of(node, 0))):
        return f"{place}/patches/bias"
    if inside == "embedding" and node.op_type == "Reshape" and (rank(node.outputs[0]) or 0) > IMAGE_RANK:
        return f"{place}/grid"
    if inside == "attention/split" and _is_last_two(node):
        return f"{place}/k_transposed"
    if node.op_type == "Transpose" and _is_image(input_of(node, 0)):
        return f"{place}/layout"
    return f"{place}/{PARTS.get((inside, node.op_type), node.op_type.lower())}"


def _is_image(value: ir.Value) -> bool:
    """Whether a tensor is the graph's input, or the pixels of the input as floats."""
    made = value.producer()
    return value.is_graph_input() if made is None or made.op_type != "Cast" else input_of(made, 0).is_graph_input()


def _adds_constant(node: ir.Node) -> bool:
    return node.op_type == "Add" and any(value.is_initializer() for value in inputs_of(node))


def _is_last_two(node: ir.Node) -> bool:
    """Whether a node exchanges the last two axes and no others."""
    order = node.attributes.get_ints("perm", ())
    last = len(order) - 1
    return node.op_type == "Transpose" and list(order) == [*range(last - 1), last, last - 1] and last > 1


def _unique(name: str, taken: Counter) -> str:
    taken[name] += 1
    return name if taken[name] == 1 else f"{name}/{taken[name]}"


def _name_outputs(node: ir.Node, place: str, places: dict[ir.Node, str], taken: Counter) -> None:
    block, inside = _split(place)
    for index, value in enumerate(node.outputs):
        if value.is_graph_output():
            continue
        leaves = len(node.outputs) == 1 and any(places.get(use.node) != place for use in value.uses())
        own = node.name if len(node.outputs) == 1 else f"{node.name}:{index}"
        named = block + _leaving(node, inside, places) if leaves else f"{own}:out"
        if inside == "attention/split" and len(node.outputs) == len(QKV):
            named = f"{place}/{QKV[index]}"
        value.name = _unique(named if named not in taken else f"{own}:out", taken)


def _leads_to(node: ir.Node, inside: str, places: dict[ir.Node, str]) -> bool:
    return any(places.get(use.node, "").endswith(inside) for use in node.outputs[0].uses())


def _leaving(node: ir.Node, inside: str, places: dict[ir.Node, str]) -> str:
    if inside == "attention/scores" and _leads_to(node, "attention/scale", places):
        return "attention/scores/product"
    if inside == "attention/scale" and _leads_to(node, "attention/softmax", places):
        return "attention/scores"
    if inside == "attention/split" and _is_last_two(node):
        return "attention/split/k_transposed"
    return LEAVING.get(inside, inside)


def _name_constants(places: dict[ir.Node, str], taken: Counter) -> None:
    """Name each weight after the first node that reads it and its role there, ``block03/mlp/fc1/weight``."""
    named = set()
    for node in places:
        for index, value in enumerate(node.inputs):
            if value is None or not value.is_initializer() or value in named:
                continue
            named.add(value)
            roles_of = OPERANDS.get(node.op_type, ())
            role = roles_of[index] if index < len(roles_of) else "value"
            name = name_of(node)
            is_bias = node.op_type == "Add" and "/bias" in name
            value.name = _unique(name if is_bias else f"{name}/{role}", taken)
