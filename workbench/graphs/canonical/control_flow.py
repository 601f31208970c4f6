"""Loop, Scan and If written out, so that everything that comes later knows flat graphs only.

A ViT whose blocks are the steps of a loop becomes a ViT with so many blocks. JAX's ``scan`` over layers with
stacked weights is exported as a Loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript import optimizer

from ...errors import WorkbenchError, refuse_unless
from ..structure.builder import constant
from ..structure.operators import name_of
from ..structure.values import array, input_of, lengths, number, optional_input, producer_of

CONTROL_FLOW = ("Loop", "Scan", "If")
#: A written-out graph of more nodes is no ViT: ViT-22B has fewer than 3,000.
MOST_NODES = 50_000


def write_out(model: ir.Model) -> None:
    """Write every Loop, Scan and If out, in place.

    Raises:
        WorkbenchError: the number of steps, or the branch, is not known before the model runs.
    """
    for fold in (False, True, True):
        if fold and _control_flow(model):
            optimizer.fold_constants(model)
            passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        while node := next(filter(_steps_are_known, _control_flow(model)), None):
            _write_out(model, node)
    if left := _control_flow(model):
        raise _unknown(left[0])
    passes.RemoveUnusedNodesPass()(model)


def _control_flow(model: ir.Model) -> list[ir.Node]:
    """The loops and branches of a model that hold no other, wherever they stand."""
    found = [node for node in ir.traversal.RecursiveGraphIterator(model.graph) if node.op_type in CONTROL_FLOW]
    return [node for node in found if not any(each.op_type in CONTROL_FLOW for each in _inside(node))]


def _inside(node: ir.Node) -> Iterator[ir.Node]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from ir.traversal.RecursiveGraphIterator(attribute.as_graph())


def _graph_of(node: ir.Node) -> ir.Graph:
    """The graph or body that a node stands in."""
    if not isinstance(node.graph, ir.Graph):
        raise ValueError(f"{name_of(node)} stands in no graph")
    return node.graph


def _unknown(node: ir.Node) -> WorkbenchError:
    what = "branch" if node.op_type == "If" else "number of steps"
    return WorkbenchError(
        f"The model holds a {node.op_type} that cannot be written out",
        why=f"the {what} of {name_of(node)} is not known before it runs",
        remedy="export the model with a fixed number of blocks and no branches, or with another exporter",
    )


def _steps_are_known(node: ir.Node) -> bool:
    if node.op_type == "If":
        return array(node.inputs[0]) is not None
    if node.op_type == "Scan":
        return _scan_length(node) is not None
    goes_on = array(optional_input(node, 1))
    counted = number(optional_input(node, 0)) is not None and (node.inputs[1] is None or goes_on is not None)
    return counted and _goes_on(node.attributes["body"].as_graph())


def _goes_on(body: ir.Graph) -> bool:
    """Whether the condition that a step returns is the one that it was given, or true."""
    condition = body.outputs[0]
    while (made := producer_of(condition)) is not None and made.op_type == "Identity":
        condition = input_of(made, 0)
    value = made.attributes.get_tensor("value") if made is not None and made.op_type == "Constant" else None
    known = condition.const_value if value is None else value
    return condition is body.inputs[1] or (known is not None and bool(known.numpy().all()))


def _scan_length(node: ir.Node) -> int | None:
    axis = (node.attributes.get_ints("scan_input_axes") or [0])[0]
    shape = lengths(node.inputs[-node.attributes["num_scan_inputs"].as_int()])
    return shape[axis] if shape else None


def _write_out(model: ir.Model, node: ir.Node) -> None:
    if node.op_type == "If":
        chosen = "then_branch" if _holds(node) else "else_branch"
        made = _instance(model, node, node.attributes[chosen].as_graph(), (), "")
    else:
        made = _loop(model, node) if node.op_type == "Loop" else _scan(model, node)
    for old, new in zip(node.outputs, made):
        new.shape = new.shape or old.shape
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    _graph_of(node).remove(node, safe=True)


def _holds(node: ir.Node) -> bool:
    """Whether the constant condition of an If holds."""
    return bool(number(node.inputs[0]))


def _loop(model: ir.Model, node: ir.Node) -> list[ir.Value]:
    body, states = node.attributes["body"].as_graph(), [value for value in node.inputs[2:] if value is not None]
    start = array(optional_input(node, 1))
    trips = int(number(node.inputs[0]) or 0) if start is None or start.all() else 0
    _check_size(node, body, trips)
    stacked: list[list[ir.Value]] = [[] for _ in body.outputs[1 + len(states) :]]
    condition = constant(model, f"{name_of(node)}/true", np.array(True))
    for step in range(trips):
        number_of = constant(model, f"{name_of(node)}/{step}", np.array(step, np.int64))
        _, *results = _instance(model, node, body, (number_of, condition, *states), f"/{step}")
        states = results[: len(states)]
        for each, result in zip(stacked, results[len(states) :]):
            each.append(result)
    return [*states, *(_stack(model, node, each, 0) for each in stacked)]


def _scan(model: ir.Model, node: ir.Node) -> list[ir.Value]:
    body, count = node.attributes["body"].as_graph(), node.attributes["num_scan_inputs"].as_int()
    states, scanned = [value for value in node.inputs[:-count] if value is not None], node.inputs[-count:]
    steps = _scan_length(node) or 0
    axes = node.attributes.get_ints("scan_input_axes") or [0] * count
    backwards = node.attributes.get_ints("scan_input_directions") or [0] * count
    outputs = len(body.outputs) - len(states)
    written_backwards = node.attributes.get_ints("scan_output_directions") or [0] * outputs
    written_axes = node.attributes.get_ints("scan_output_axes") or [0] * outputs
    _check_size(node, body, steps)
    stacked: list[list[ir.Value]] = [[] for _ in range(outputs)]
    for step in range(steps):
        parts = [
            _part(model, node, value, axis, steps - 1 - step if back else step)
            for value, axis, back in zip(scanned, axes, backwards)
        ]
        results = _instance(model, node, body, (*states, *parts), f"/{step}")
        states = results[: len(states)]
        for each, result in zip(stacked, results[len(states) :]):
            each.append(result)
    ordered = [each[::-1] if back else each for each, back in zip(stacked, written_backwards)]
    return [*states, *(_stack(model, node, each, axis) for each, axis in zip(ordered, written_axes))]


def _check_size(node: ir.Node, body: ir.Graph, steps: int) -> None:
    refuse_unless(
        0 < steps * len(body) <= MOST_NODES,
        f"The model holds a {node.op_type} that cannot be written out",
        why=f"{name_of(node)} takes {steps:,} steps of {len(body)} operators",
        remedy="export the model with a fixed number of blocks, or with another exporter",
    )


def _instance(
    model: ir.Model, node: ir.Node, body: ir.Graph, inputs: Sequence[ir.Value | None], suffix: str
) -> list[ir.Value]:
    """A copy of a body's operators in front of a node; what its outputs are there."""
    known: dict[ir.Value | None, ir.Value | None] = dict(zip(body.inputs, inputs))
    for name, value in body.initializers.items():
        if value.const_value is not None:
            known[value] = constant(model, f"{name_of(node)}/{name}", value.const_value.numpy())
    for each in body:
        outputs = [
            ir.Value(name=f"{value.name}{suffix}", shape=value.shape, type=value.type) for value in each.outputs
        ]
        copy = ir.Node(
            each.domain,
            each.op_type,
            [known.get(value, value) for value in each.inputs],
            each.attributes.values(),
            overload=each.overload,
            outputs=outputs,
            name=f"{name_of(each)}{suffix}",
            metadata_props=dict(each.metadata_props),
        )
        known |= dict(zip(each.outputs, outputs))
        _graph_of(node).insert_before(node, copy)
    return [made for value in body.outputs if (made := known.get(value, value)) is not None]


def _part(model: ir.Model, node: ir.Node, value: ir.Value | None, axis: int, index: int) -> ir.Value | None:
    """One step of a scanned tensor: a slice of a constant, or a Gather."""
    if value is None:
        return None
    name = f"{name_of(node)}/{value.name}/{index}"
    if (stacked := array(value)) is not None:
        return constant(model, name, np.ascontiguousarray(np.take(stacked, index, axis)))
    position = constant(model, f"{name}/index", np.array(index, np.int64))
    return _inserted(node, ir.node("Gather", [value, position], {"axis": axis}, name=name))


def _stack(model: ir.Model, node: ir.Node, steps: Iterable[ir.Value], axis: int) -> ir.Value:
    """What every step wrote, along a new axis."""
    where = constant(model, f"{name_of(node)}/axis", np.array([axis], np.int64))
    single = [_inserted(node, ir.node("Unsqueeze", [value, where])) for value in steps]
    return _inserted(node, ir.node("Concat", single, {"axis": axis}))


def _inserted(before: ir.Node, node: ir.Node) -> ir.Value:
    _graph_of(before).insert_before(before, node)
    return node.outputs[0]
