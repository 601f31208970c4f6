"""Attention that TensorRT will not compute in one kernel, and sizes without a fast one."""

from __future__ import annotations

from collections.abc import Iterator

from ....backends.tensorrt.attention_kernels import LOW_RULES, predict_attention
from ...structure.attention import Attention
from ...structure.compute_type import attention_types, types_of_products
from ...structure.operators import name_of
from ...structure.placement import PlacedModel
from .finding import GRAPH, Finding, by_place
from .quantization import written_for_a_cpu

_TENSOR_CORES = (
    "https://docs.nvidia.com/deeplearning/performance/dl-performance-matrix-multiplication/index.html"
    "#requirements-tc"
)


def attention_apart(placed: PlacedModel, sm: int) -> Iterator[Finding]:
    """Attentions that TensorRT will not compute in one kernel, and why, but for those in FP32."""
    for attention in placed.attentions:
        reason, mitigation = _apart(attention, sm)
        if reason:
            nodes = tuple(map(name_of, (attention.scores, attention.softmax, attention.context)))
            help_ = f"{reason}; then the tokens × tokens matrix goes through memory three times"
            block = placed.block_of(attention)
            where = f"{block}/scores" if block else placed.where(attention.scores)
            yield Finding("attention will not fuse", "warning", where, mitigation, help_, nodes)


def attention_in_float32(placed: PlacedModel, sm: int) -> Iterator[Finding]:
    """Attention in FP32: in a model that is all FP32, between 8-bit layers, or in a block kept out of 16 bits.

    A file whose 8 bits are written for a CPU is not judged: TensorRT refuses it.
    """
    high = [attention.scores for attention in placed.attentions if _is_float32(attention)]
    if not high or written_for_a_cpu(placed):
        return
    if types_of_products(placed.nodes) == {"fp32"}:
        mitigation = "apply_recipe(graph, Recipe(precision='fp16'), workspace)"
        help_ = "TensorRT fuses no attention in FP32, and tensor cores want narrower types"
        yield Finding("all in FP32", "note", GRAPH, mitigation, help_)
        return
    yield from by_place(
        placed,
        high,
        "attention in FP32",
        "warning",
        "Recipe(high_precision='fp16') beside 8 bits; leave this block out of Recipe.exclude",
        "TensorRT fuses no attention in FP32, which beside 8-bit layers costs more than they save",
    )


def _apart(attention: Attention, sm: int) -> tuple[str, str]:
    """Why an attention stays apart and what mends it; two empty strings where it fuses.

    That a Tanh between the products and a second reader of the probabilities prevent fusion, while Mul, Div, Add,
    Identity and a softmax between casts do not, was measured on builds by TensorRT for RTX 1.7.1 for SM86.
    """
    extra = next((n for n in attention.between if n.op_type in ("Tanh", "Clip", "Max")), None)
    if extra is not None:
        return f"{extra.op_type} stands between its products", "export the model without it"
    reader = _other_reader(attention)
    if reader == "IsNaN":
        return "a guard against NaN reads its probabilities too", "import_onnx writes attention without the guard"
    if reader is not None:
        return "its probabilities are read elsewhere too", "export the model without attention maps as an output"
    if attention.head_size is None or attention.tokens is None or _is_float32(attention):
        return "", ""
    types = attention_types(attention)
    answer = predict_attention(
        types.high,
        types.low,
        types.sites,
        head_size=attention.head_size,
        tokens=attention.tokens,
        sm=sm,
    )
    if answer.fused:
        return "", ""
    if types.low:
        return answer.reason, f"Recipe(precision='{types.low}', scope='linear') keeps attention in 16 bits, fused"
    return answer.reason, "choose a model with another head size; nothing in a recipe changes it"


def _is_float32(attention: Attention) -> bool:
    """Whether an attention computes in FP32, with no Q/DQ inside."""
    high, low, _ = attention_types(attention)
    return high == "fp32" and low is None


def _other_reader(attention: Attention) -> str | None:
    """What else reads the probabilities: ``IsNaN`` for torch's guard, ``output`` for anything else, or None."""
    made = attention.softmax.outputs[0]
    while not attention.is_operator:
        readers = [use.node for use in made.uses()]
        if made.is_graph_output() or len(readers) > 1:
            return next((node.op_type for node in readers if node.op_type == "IsNaN"), "output")
        if readers[0] is attention.context:
            return None
        made = readers[0].outputs[0]
    return None


def off_the_fast_path(placed: PlacedModel, sm: int) -> Iterator[Finding]:
    """Head sizes and token counts for which there is no INT8 kernel, or no whole tile of a tensor core."""
    for head, tokens in dict.fromkeys((a.head_size, a.tokens) for a in placed.attentions):
        if head is None or tokens is None:
            continue
        for rule in LOW_RULES["int8"]:
            if not rule.holds(head, tokens, sm):
                yield Finding(
                    "no INT8 kernel for this attention",
                    "note",
                    GRAPH,
                    "quantize the linear layers only: Recipe(precision='int8', scope='linear')",
                    f"{rule.reason}; this model has heads of {head} and {tokens} tokens",
                )
        if head % 8 or tokens % 8:
            what = f"heads of {head} channels" if head % 8 else f"{tokens} tokens"
            remedy = "heads of" if head % 8 else "an image size, patch and classifier that make"
            unit = "channels" if head % 8 else "tokens"
            yield Finding(
                "size off the tensor cores' tiles",
                "note",
                GRAPH,
                f"where the model can still be chosen, take {remedy} a multiple of 8 {unit}",
                f"{what} fill no whole number of 16-byte rows in FP16: {_TENSOR_CORES}",
            )
