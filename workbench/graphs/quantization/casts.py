"""FP16 and BF16, strongly typed: in the file itself, every operator computes in one type.

What stays float32, between casts:

* input and output of the graph;
* LayerNorm and the mean over tokens: their sums and squares overflow FP16 (300² is beyond 65,504) and lose BF16's
  eight bits. ONNX leaves a runtime free to compute the statistics in the type of the input; a cast does not;
* a layer with a weight beyond FP16's largest number;
* what a recipe keeps.

Softmax subtracts the largest score first, so it cannot overflow; the scores can, and ``prepare`` moves their
scale in front of the product for that.
"""

from __future__ import annotations

import functools

import numpy as np
import onnx
import onnx_ir as ir

from ...errors import WorkbenchError
from ...places import place_of
from ..structure.builder import constant, node, take_place
from ..structure.values import array
from .prepare import QUANTIZED
from .qdq_sites import excluded
from .scales import FLOAT_TYPES

TYPES = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
FLOAT = ir.DataType.FLOAT
FP16_MAX = 65504.0
#: Operators and places whose statistics need float32.
GUARDED_OPERATORS = ("LayerNormalization", "ReduceMean", "ReduceSum", "GlobalAveragePool")
GUARDED_ROLES = ("norm1", "norm2", "norm", "pool")
#: Operators whose output's type is an attribute; what they make is cast where it is used.
TYPED_BY_ATTRIBUTE = ("Cast", "ConstantOfShape", "RandomNormal", "RandomUniform")


def retype(model: ir.Model, precision: str, keep: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Let a float32 model compute in a 16-bit type, in place; Q/DQ pairs may be in it already.

    QuantizeLinear takes 16-bit floats from opset 19 on; below, a pair keeps its float32 scales between two casts.

    Args:
        model: changed in place.
        precision: ``fp16`` or ``bf16``; ``fp32`` changes nothing.
        keep: names of blocks, sites or nodes that stay float32.

    Returns:
        Notes for the variant: the layers that stay float32 because of their weights.

    Raises:
        WorkbenchError: the type of a tensor could not be inferred.
    """
    target = TYPES[precision]
    if target == FLOAT:
        return ()
    beyond = layers_beyond(model, precision)
    high = {each for each in model.graph if _layer(each) in beyond or _stays(each, keep)}
    types = {each: FLOAT if each in high else _node_type(model, each, target) for each in model.graph}
    retyped: dict[tuple[str, ir.DataType], ir.Value] = {}
    for each in list(model.graph):
        for index, value in enumerate(each.inputs):
            if value is None or value.dtype != FLOAT:
                continue
            wanted = types[each] if types[each] in _allowed(model, each).inputs[index] else FLOAT
            if wanted != _written(value, types):
                key = (value.name, wanted)
                if key not in retyped:
                    retyped[key] = _as(model, value, wanted, each, {value.name for value in retyped.values()})
                each.replace_input_with(index, retyped[key])
    for each, kind in types.items():
        for value in each.outputs:
            if value.dtype == FLOAT:
                value.dtype = kind
    _float_outputs(model)
    return tuple(
        f"{layer} stays float32: its largest weight is {amax:.4g}, beyond {FP16_MAX:,.0f}"
        for layer, amax in beyond.items()
    )


class _Types:
    """For each input and output of an operator, the tensor types that its specification allows there."""

    def __init__(self, kind: str, domain: str, version: int, inputs: int, outputs: int):
        schema = onnx.defs.get_schema(kind, version, domain)
        allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
        self.inputs = [_parse(allowed, schema.inputs, index) for index in range(inputs)]
        self.outputs = [_parse(allowed, schema.outputs, index) for index in range(outputs)]


_TYPE_STRINGS = {
    "tensor(float)": FLOAT,
    "tensor(float16)": ir.DataType.FLOAT16,
    "tensor(bfloat16)": ir.DataType.BFLOAT16,
}


def _parse(allowed, formals, index) -> frozenset:
    formal = formals[min(index, len(formals) - 1)]  # the last may be variadic
    strings = allowed.get(formal.type_str, [formal.type_str])
    return frozenset(_TYPE_STRINGS[s] for s in strings if s in _TYPE_STRINGS)


_types = functools.cache(_Types)


def _allowed(model: ir.Model, each: ir.Node) -> _Types:
    version = model.graph.opset_imports[each.domain]
    try:
        return _types(each.op_type, each.domain, version, len(each.inputs), len(each.outputs))
    except onnx.defs.SchemaError as error:
        raise WorkbenchError(
            f"The types that {each.name or each.op_type} takes are unknown",
            why=f"{each.op_type} of domain {each.domain or 'ONNX'!r}, version {version}, is no ONNX operator",
            remedy="export the model with standard operators, or leave it in fp32",
        ) from error


def _stays(each: ir.Node, keep: tuple[str, ...]) -> bool:
    """Whether a recipe keeps a node float32; a softmax stays with the scores that it reads.

    Scores that are too large for 16 bits would else overflow on their way into it.
    """
    place = place_of(each.name or "")
    with_scores = place is not None and place.role == "softmax" and f"{place.block}/scores" in keep
    return with_scores or excluded(each, keep)


def _node_type(model: ir.Model, each: ir.Node, target: ir.DataType) -> ir.DataType:
    """The type that a node computes in: the target, unless it is guarded or its specification excludes it."""
    place = place_of(each.name or "")
    guarded = place is not None and place.role in GUARDED_ROLES and each.op_type not in QUANTIZED
    if guarded or each.op_type in (*GUARDED_OPERATORS, *TYPED_BY_ATTRIBUTE):
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
    return (each.name or each.outputs[0].name).removesuffix("/bias")


def layers_beyond(model: ir.Model, precision: str) -> dict[str, float]:
    """Layer -> the largest magnitude among its weights, where that is too large for FP16."""
    beyond = {}
    if precision != "fp16":
        return beyond
    for each in model.graph:
        for value in each.inputs:
            weight = array(value)
            if weight is not None and value.dtype == FLOAT and weight.size:
                amax = float(np.abs(weight).max())
                if amax > FP16_MAX:
                    beyond[_layer(each)] = max(amax, beyond.get(_layer(each), 0))
    return beyond


def _written(value: ir.Value, types: dict) -> ir.DataType:
    """The type in which a float tensor is there without a cast."""
    producer = value.producer()
    return FLOAT if producer is None else types[producer]


def _as(model: ir.Model, value: ir.Value, wanted: ir.DataType, reader: ir.Node, taken: set[str]) -> ir.Value:
    """The tensor in another type: weights are rounded here, what is computed goes through a cast."""
    label = next(name for name, kind in TYPES.items() if kind == wanted)
    if (weight := array(value)) is not None:
        return constant(model, f"{value.name}/{label}", weight.astype(FLOAT_TYPES[label]))
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


def _float_outputs(model: ir.Model) -> None:
    """Cast the graph's outputs back to float32."""
    for value in list(model.graph.outputs):
        if value.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
            cast = node("Cast", f"{value.name}/fp32", value, to=FLOAT)
            model.graph.insert_after(value.producer(), cast)
            take_place(cast.outputs[0], value, but=cast)
            cast.outputs[0].dtype = FLOAT
