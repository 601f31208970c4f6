"""When TensorRT makes one kernel of an attention: rules found by building, and the prediction that they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ...dtypes import TYPES
from ..hardware.cards import sm_name

#: The tensors of an attention that can carry Q/DQ, and the node that reads or, for ``context``, writes each.
SITES = {"query": "scores", "key": "scores", "value": "context", "softmax": "context", "context": "context"}
#: What the scope ``everything`` quantizes as well: the softmax's input.
EVERYWHERE = {**SITES, "scores": "softmax"}


class Prediction(NamedTuple):
    """What will become of one attention."""

    fused: bool
    type: str | None
    reason: str


def predict_attention(
    high: str,
    low: str | None,
    sites: frozenset[str],
    *,
    head_size: int,
    tokens: int,
    sm: int,
    joined: bool = False,
) -> Prediction:
    """Whether one attention becomes one kernel.

    Args:
        high: the type around it: ``fp32``, ``fp16`` or ``bf16``.
        low: the type of its Q/DQ, ``int8`` or ``fp8``, or None where there are none.
        sites: the tensors that carry Q/DQ, out of ``EVERYWHERE``.
        head_size: channels per head.
        tokens: length of the sequence.
        sm: compute capability, 86 for 8.6.
        joined: whether ``proj``, quantized like it, reads the only head: no transpose stands between them then.
    """
    # Q/DQ on one input of a product leave it a product in the high type; on both they make it one in the low type.
    first, second = sites >= {"query", "key"}, sites >= {"value", "softmax"}
    if low is None or not (first or second or "softmax" in sites):
        return _predict(high, HIGH_RULES, head_size, tokens, sm)
    if "scores" in sites:
        return Prediction(False, None, f"{low} Q/DQ between the first product and the softmax")
    if not (first and second):
        return Prediction(False, None, f"one product in {low}, the other in {high}: quantize both or none")
    if low == "int8" and "context" not in sites:
        return Prediction(False, None, "INT8 attention is fused only with Q/DQ after the second product as well")
    if low == "int8" and joined and (sm < 89 or tokens <= 32):  # the last block is sometimes an exception
        return Prediction(False, None, "a single head before a quantized proj wants SM89 and more than 32 tokens")
    return _predict(low, LOW_RULES, head_size, tokens, sm)


class Rule(NamedTuple):
    """What must hold for a type; the reason is given where it does not."""

    holds: Callable[[int, int, int], bool]  # of head size, tokens and compute capability
    reason: str


#: Measured with TensorRT for RTX 1.7.1 on builds for SM75, 80, 86, 89 and 120: one ViT block, head sizes 8 to 512
#: and 2 to 2048 tokens, dynamic and static batch, opsets 17 to 21.
_HALF = (
    Rule(lambda head, tokens, sm: head > 8, "no kernel for heads of 8 channels or fewer"),
    Rule(lambda head, tokens, sm: head <= 256, "no kernel for heads of more than 256 channels"),
)
HIGH_RULES: Mapping[str, tuple[Rule, ...]] = {
    "fp32": (Rule(lambda head, tokens, sm: False, "no fused attention exists in FP32"),),
    "fp16": _HALF,
    "bf16": _HALF,
}
LOW_RULES: Mapping[str, tuple[Rule, ...]] = {
    "int8": (
        Rule(
            lambda head, tokens, sm: head in (16, 32, 64), "INT8 kernels exist for heads of 16, 32 and 64 channels"
        ),
        Rule(lambda head, tokens, sm: tokens <= 512, "INT8 kernels hold 512 tokens at most"),
        Rule(
            lambda head, tokens, sm: sm > 75 or head < 64 or tokens <= 384,
            "on SM75 the INT8 kernel for heads of 64 channels holds 384 tokens at most",
        ),
    ),
    "fp8": (
        Rule(lambda head, tokens, sm: head <= 256, "no kernel for heads of more than 256 channels"),
        Rule(lambda head, tokens, sm: tokens >= 32, "FP8 kernels want 32 tokens at least"),
    ),
}


def _predict(name: str, rules: Mapping[str, tuple[Rule, ...]], head: int, tokens: int, sm: int) -> Prediction:
    if not TYPES[name].runs_on(sm):
        return without_tensor_cores(name, sm)
    broken = next((rule for rule in rules[name] if not rule.holds(head, tokens, sm)), None)
    if broken:
        return Prediction(False, None, broken.reason)
    return Prediction(True, name, f"one kernel in {name}")


def without_tensor_cores(name: str, sm: int) -> Prediction:
    """What becomes of an attention in a type that the architecture does not know."""
    return Prediction(False, None, f"{sm_name(sm)} has no tensor cores for {name}; such an engine is not built")
