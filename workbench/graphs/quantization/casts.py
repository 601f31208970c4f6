"""FP16 and BF16, strongly typed: in the file itself, every operator computes in one type.

What stays float32, between casts:

* input and output of the graph;
* LayerNorm, the mean over tokens, and every square and sum that stands elsewhere (``overflow``): they overflow FP16
  and lose BF16's eight bits. ONNX leaves a runtime free to compute the statistics in the type of the input; a cast
  does not;
* a layer with a finite weight beyond FP16's largest number; an infinite one is exact in FP16;
* what a recipe excludes.

Softmax subtracts the largest score first, so it cannot overflow; the scores can, and ``prepare`` moves their
scale in front of the product for that.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
import onnx_ir as ir

from ...dtypes import TYPES, of_onnx
from ...errors import WorkbenchError
from ...places import place_of
from ..structure.builder import constant, node, take_place
from ..structure.operators import PRODUCTS, UNCOUNTED_PRODUCTS, name_of
from ..structure.values import FLOATS, HALVES, array, numpy_type, onnx_type, tensor_name
from .overflow import overflowing
from .qdq_sites import excluded

FLOAT = onnx_type("fp32")
#: Operators whose output's type is an attribute; what they make is cast where it is used.
TYPED_BY_ATTRIBUTE = ("Cast", "ConstantOfShape", "RandomNormal", "RandomUniform")


def retype(model: ir.Model, precision: str, exclude: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Let a float32 model compute in a 16-bit type, in place; Q/DQ pairs may be in it already.

    QuantizeLinear takes 16-bit floats from opset 19 on; below, a pair keeps its float32 scales between two casts.

    Args:
        model: changed in place.
        precision: ``fp16`` or ``bf16``; ``fp32`` changes nothing.
        exclude: names of blocks, places or nodes that stay float32.

    Returns:
        Notes for the variant: the layers that stay float32 because of their weights, and other products that do,
        though no recipe asked for it.

    Raises:
        WorkbenchError: the type of a tensor could not be inferred.
    """
    target = onnx_type(precision)
    if target == FLOAT:
        return ()
    beyond = layers_beyond(model, precision)
    high = {each for each in model.graph if _layer(each) in beyond or _stays_float32(each, exclude)}
    guarded = overflowing(model)
    types = {each: FLOAT if each in high | guarded else _node_type(model, each, target) for each in model.graph}
    left = [each for each in model.graph if _is_product(each) and types[each] == FLOAT and each not in high]
    _cast_inputs(model, types)
    for each, kind in types.items():
        for value in each.outputs:
            if value.dtype == FLOAT:
                value.dtype = kind
    _cast_outputs_back(model)
    return (
        *(
            f"{layer} stays float32: its largest weight is {amax:.4g}, beyond {TYPES['fp16'].largest:,.0f}"
            for layer, amax in beyond.items()
        ),
        *_left_notes(model, left, precision),
    )


def _is_product(each: ir.Node) -> bool:
    return each.op_type in (*PRODUCTS, *UNCOUNTED_PRODUCTS) and any(value.dtype == FLOAT for value in each.outputs)


def _left_notes(model: ir.Model, left: list[ir.Node], precision: str) -> list[str]:
    if not left:
        return []
    products = sum(each.op_type in (*PRODUCTS, *UNCOUNTED_PRODUCTS) for each in model.graph)
    kinds = " and ".join(sorted({each.op_type for each in left}))
    first = name_of(left[0])
    return [f"{len(left)} of {products} products stay float32, {first} first: ONNX's {kinds} takes no {precision}"]


def _cast_inputs(model: ir.Model, types: Mapping[ir.Node, ir.DataType]) -> None:
    """Let every node read its float inputs in the type that it computes in; readers share casts."""
    retyped: dict[tuple[str, ir.DataType], ir.Value] = {}
    for each in list(model.graph):
        for index, value in enumerate(each.inputs):
            if value is None or value.dtype != FLOAT:
                continue
            wanted = types[each] if types[each] in _allowed(model, each).inputs[index] else FLOAT
            producer = value.producer()
            if wanted == (FLOAT if producer is None else types[producer]):
                continue
            key = (tensor_name(value), wanted)
            if key not in retyped:
                retyped[key] = _typed(model, value, wanted, each, {tensor_name(made) for made in retyped.values()})
            each.replace_input_with(index, retyped[key])


class _Allowed(NamedTuple):
    """For each input and output of an operator, the float types that its specification allows there."""

    inputs: list[frozenset[ir.DataType]]
    outputs: list[frozenset[ir.DataType]]


@functools.cache
def _specified(kind: str, domain: str, version: int, inputs: int, outputs: int) -> _Allowed:
    schema = onnx.defs.get_schema(kind, version, domain)
    constraints = {each.type_param_str: each.allowed_type_strs for each in schema.type_constraints}

    def floats(formals: Sequence[onnx.defs.OpSchema.FormalParameter], index: int) -> frozenset[ir.DataType]:
        formal = formals[min(index, len(formals) - 1)]  # the last may be variadic
        kinds = map(of_onnx, constraints.get(formal.type_str, [formal.type_str]))
        return frozenset(onnx_type(kind.name) for kind in kinds if kind).intersection(FLOATS)

    read = [floats(schema.inputs, index) for index in range(inputs)]
    return _Allowed(read, [floats(schema.outputs, index) for index in range(outputs)])


def _allowed(model: ir.Model, each: ir.Node) -> _Allowed:
    version = model.graph.opset_imports[each.domain]
    try:
        return _specified(each.op_type, each.domain, version, len(each.inputs), len(each.outputs))
    except onnx.defs.SchemaError as error:
        raise WorkbenchError(
            f"The types that {name_of(each)} takes are unknown",
            why=f"{each.op_type} of domain {each.domain or 'ONNX'!r}, version {version}, is no ONNX operator",
            remedy="export the model with standard operators, or leave it in fp32",
        ) from error


def _stays_float32(each: ir.Node, exclude: tuple[str, ...]) -> bool:
    """Whether a recipe excludes a node; a softmax is excluded with the scores that it reads.

    Scores that are too large for 16 bits would else overflow on their way into it.
    """
    place = place_of(each.name or "")
    with_scores = place is not None and place.role == "softmax" and f"{place.block}/scores" in exclude
    return with_scores or excluded(each, exclude)


def _node_type(model: ir.Model, each: ir.Node, target: ir.DataType) -> ir.DataType:
    """The type that a node computes in: the target, unless its specification excludes it."""
    if each.op_type in TYPED_BY_ATTRIBUTE:
        return FLOAT
    allowed = _allowed(model, each)
    # An input of one fixed type, such as Resize's scales, says nothing about the others.
    read = [types for value, types in zip(each.inputs, allowed.inputs) if _is_float(value) and len(types) > 1]
    written = [types for value, types in zip(each.outputs, allowed.outputs) if _is_float(value)]
    return target if all(target in types for types in read + written) else FLOAT


def _is_float(value: ir.Value | None) -> bool:
    if value is None:
        return False
    if value.dtype is None:
        raise WorkbenchError(
            f"The type of {value.name} is unknown",
            why="ONNX could not infer it",
            remedy="run the file through onnx.shape_inference, or leave it in fp32",
        )
    return value.dtype == FLOAT


def _layer(each: ir.Node) -> str:
    """A product and its bias belong together: ``block03/mlp/fc1`` and ``block03/mlp/fc1/bias``."""
    return name_of(each).removesuffix("/bias")


def layers_beyond(model: ir.Model, precision: str) -> dict[str, float]:
    """Layer -> the largest finite magnitude among its weights, where that is too large for FP16."""
    beyond: dict[str, float] = {}
    if precision != "fp16":
        return beyond
    for each in model.graph:
        for value in each.inputs:
            weight = array(value)
            if weight is not None and weight.dtype == np.float32 and weight.size:
                amax = float(np.abs(weight[np.isfinite(weight)]).max(initial=0))
                if amax > TYPES["fp16"].largest:
                    beyond[_layer(each)] = max(amax, beyond.get(_layer(each), 0))
    return beyond


def _typed(model: ir.Model, value: ir.Value, wanted: ir.DataType, reader: ir.Node, taken: set[str]) -> ir.Value:
    """The tensor in another type: weights are rounded here, what is computed goes through a cast."""
    label = next(name for name in TYPES if onnx_type(name) == wanted)
    if (weight := array(value)) is not None:
        return constant(model, f"{value.name}/{label}", weight.astype(numpy_type(label)))
    producer = value.producer()
    # Named after what stays float32, or after the reader where that is the graph's input.
    owner = producer if producer is not None and wanted != FLOAT else reader
    name = f"{owner.name or value.name}/{label}"
    while f"{name}:0" in taken:  # a product that stays float32 reads two computed tensors
        name += "'"
    cast = node("Cast", name, value, like=value, dtype=wanted, to=wanted)
    if producer is None:
        model.graph.insert_before(reader, cast)
    else:
        model.graph.insert_after(producer, cast)
    return cast.outputs[0]


def _cast_outputs_back(model: ir.Model) -> None:
    """Cast the graph's outputs back to float32."""
    for value in list(model.graph.outputs):
        producer = value.producer()
        if value.dtype in HALVES and producer is not None:
            cast = node("Cast", f"{value.name}/fp32", value, to=FLOAT)
            model.graph.insert_after(producer, cast)
            take_place(cast.outputs[0], value, but=cast)
            cast.outputs[0].dtype = FLOAT
