"""The rules by which TensorRT computes an attention in one kernel, found by building engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ...dtypes import TYPES
from ..hardware.cards import sm_name

#: The Q/DQ sites of an attention: a tensor -> the node that reads it, or for ``context`` the node that writes it.
SITES = {"query": "scores", "key": "scores", "value": "context", "softmax": "context", "context": "context"}
#: With the site that the scope ``everything`` adds: the softmax's input.
EVERYWHERE = {**SITES, "scores": "softmax"}


class Prediction(NamedTuple):
    """Whether an attention will be one kernel (None: not known), in which type (None if it will not), and why."""

    fused: bool | None
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
        high: the high-precision type: ``fp32``, ``fp16`` or ``bf16``.
        low: the type of its Q/DQ, ``int8`` or ``fp8``, or None where there are none.
        sites: the sites with Q/DQ, out of ``EVERYWHERE``.
        head_size: channels per head.
        tokens: length of the sequence.
        sm: compute capability, 86 for 8.6.
        joined: whether there is one head only, and a quantized ``proj`` reads it: no transpose is between them.
    """
    # With Q/DQ on one input a product computes in the high type; with Q/DQ on both inputs, in the low type.
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
        return Prediction(False, None, "a single head before a quantized proj needs SM89 and more than 32 tokens")
    return _predict(low, LOW_RULES, head_size, tokens, sm)


class Rule(NamedTuple):
    """A condition of a kernel, and the reason to give where it does not hold."""

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
        Rule(lambda head, tokens, sm: tokens >= 32, "FP8 kernels need 32 tokens at least"),
    ),
}


def _predict(name: str, rules: Mapping[str, tuple[Rule, ...]], head: int, tokens: int, sm: int) -> Prediction:
    if name not in rules:
        return Prediction(False, None, f"no build with attention in {name} was tried")
    if not TYPES[name].runs_on(sm):
        return without_tensor_cores(name, sm)
    broken = next((rule for rule in rules[name] if not rule.holds(head, tokens, sm)), None)
    if broken:
        return Prediction(False, None, broken.reason)
    return Prediction(True, name, f"one kernel in {name}")


def without_tensor_cores(name: str, sm: int) -> Prediction:
    """The prediction for a type that the architecture has no tensor cores for."""
    return Prediction(False, None, f"{sm_name(sm)} has no tensor cores for {name}; such an engine is not built")
