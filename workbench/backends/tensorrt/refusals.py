"""Errors of TensorRT's parser and builder, as ours: node, block, reason and remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...errors import Refusal, WorkbenchError
from ...places import place_of
from ...records import Variant
from .versions import refused_node

#: Pattern in TensorRT's message -> remedy. The first that matches the operator and the message counts.
REMEDIES = (
    (
        r"DynamicQuantizeLinear|MatMulInteger|QLinear|ConvInteger",
        "int8-dynamic and the cpu layout are for ONNX Runtime: choose precision='int8' with layout='tensorrt'",
    ),
    (r"[Zz]ero.?[Pp]oint", "TensorRT wants symmetric quantization: choose layout='tensorrt' in the recipe"),
    (r"FP32 GEMM is not supported", "choose fp16, or int8 with high_precision='fp16', or build for SM80 and later"),
    (r"HW-specific datatypes", "BF16 needs SM80 and later, FP8 SM89 and later: choose another card or type"),
    (
        r"must have same (input )?types|same type",
        "the file mixes types in one operator: make the variant with apply_recipe from an fp32 graph",
    ),
    (
        r"LayerNormalization",
        "TensorRT reads it from 8.6 on; for an older one export with the normalization decomposed "
        "(jax2onnx: normalization_mode='auto')",
    ),
    (r"Gelu|Attention", "export with opset=17, where GELU and attention are spelled out in plain operators"),
    (r"within workspace limit", "raise the option workspace_gib, or leave it out"),
    (r"[Oo]ut.?[Oo]f.?[Mm]emory", "lower batches.max or the option workspace_gib, or free the GPU's memory"),
    (r"Failed to parse the ONNX model|DESERIALIZE", "the file is damaged or no ONNX model: make the variant again"),
    (
        r"No importer|UNSUPPORTED_NODE|[Uu]nsupported",
        "export with another opset, or with a newer TensorRT installed",
    ),
)
OTHER = "read the log beside the engine's folder; a smaller graph that shows the same helps NVIDIA's forum"


def parser_error(variant: Variant, errors: Sequence, logged: Sequence[str]) -> WorkbenchError:
    """The error for a file that the ONNX parser refused: its first node, with operator and block.

    Args:
        variant: what was to be built.
        errors: the parser's own, ``IParserError``.
        logged: the errors in the log; 8.6 names a node only there.
    """
    if not errors:
        why = _first_line(logged[0]) if logged else "it gives no reason"
        return _error(f"TensorRT cannot read {variant.path}", why, why)
    node, operator = refused_node(errors[0])
    node, operator = node or _node_in(logged), operator or _operator_in(logged)
    why = _first_line(errors[0].desc())
    if not node and not operator:
        return _error(f"TensorRT cannot read {variant.path}", why, why)
    return _error(
        f"TensorRT does not take the {operator or 'operator'} at {node or '(unnamed)'}{_where(node)}",
        why if len(why) > len("false") else f"the parser refuses {operator}",
        f"{operator} {errors[0].desc()}",
    )


def parser_refusal(error) -> Refusal:
    """One ``IParserError`` as a refusal of its node."""
    node, operator = refused_node(error)
    why = one_line(error.desc())
    unknown = why == "false"  # the parser's whole message for an operator that it does not know
    reason = f"the parser does not know {operator}" if unknown else why
    other = "export with another opset or without this operator" if unknown else OTHER
    return Refusal(reason, _remedy(f"{operator} {why}", other), node)


def builder_error(variant: Variant, logged: Sequence[str]) -> WorkbenchError:
    """The error for a file that the parser took and the builder refused."""
    message = logged[-1] if logged else "it returned no engine and logged no error"
    quoted = re.search(r"'([^']+/[^']+)'", message)
    where = f" at {quoted[1]}{_where(quoted[1])}" if quoted else ""
    return _error(f"TensorRT cannot build {variant.recipe.label}{where}", _first_line(message), message)


def _error(what: str, why: str, matched: str) -> WorkbenchError:
    return WorkbenchError(what, why=why, remedy=_remedy(matched))


def _remedy(message: str, other: str = OTHER) -> str:
    return next((remedy for pattern, remedy in REMEDIES if re.search(pattern, message)), other)


def one_line(text: str) -> str:
    """A message without line breaks, at most 400 characters."""
    return " ".join(text.split())[:400]


def _where(node: str | None) -> str:
    place = place_of(node or "")
    return f" ({place.block}, {place.role})" if place and place.block else ""


def _node_in(logged: Sequence[str]) -> str:
    """The name in the node that 8.6 prints after "--- Begin node ---"."""
    match = re.search(r'(?:^|\n)\s*(?:name: "([^"]*)"|Node name: (.*))', "\n".join(logged))
    return (match[1] or match[2] or "") if match else ""


def _operator_in(logged: Sequence[str]) -> str:
    """``While parsing node number 0 [Relu -> "y"]:``."""
    match = re.search(r"While parsing node number \d+ \[(\w+)", "\n".join(logged))
    return match[1] if match else ""


def _first_line(text: str) -> str:
    return " ".join(text.strip().split("\n")[:2])[:400]
