"""What a compiler or a quantized ViT will trip over: one row per hazard and place, and what mends it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from ..backends.fusion import LOW_RULES, predict_attention
from .anatomy import HALVES, PRODUCTS, QUANTIZERS, Anatomy, Attention, name_of, quantized_type, type_of, upstream
from .edit import FLOATS, array
from .precision import FP16_MAX

#: ``error``: refused by a runtime, or wrong numbers; ``warning``: slower or less exact; ``note``: good to know.
SEVERITIES = ("error", "warning", "note")
#: A hazard of the model as a whole stands here.
GRAPH = "graph"
#: Without a card, rules are those of the newest; see ``backends.cards``.
NEWEST = 120

_ORT_OPTIMIZATIONS = "https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html"
_TENSOR_CORES = (
    "https://docs.nvidia.com/deeplearning/performance/dl-performance-matrix-multiplication/index.html"
    "#requirements-tc"
)
_QDQ = "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html"
_LAYERNORM = "https://onnx.ai/onnx/operators/onnx__LayerNormalization.html"
_GELU = "https://onnx.ai/onnx/operators/onnx__Gelu.html"


class Finding(NamedTuple):
    """One hazard at one place: what it costs, and what mends it."""

    hazard: str
    severity: str
    where: str
    mitigation: str
    help: str
    nodes: tuple[str, ...] = ()


def find(anatomy: Anatomy, sm: int = NEWEST) -> list[Finding]:
    """Every finding that the graph itself shows, errors first.

    Args:
        anatomy: from ``anatomy.read``.
        sm: the compute capability to judge attention by, 86 for 8.6.
    """
    found = [finding for detector in DETECTORS for finding in detector(anatomy, sm)]
    return ordered(found)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Findings by severity; inside one, as they were found."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def _by_place(anatomy: Anatomy, nodes: Iterable[ir.Node], *row: str) -> Iterator[Finding]:
    """The same hazard once for each place that some nodes stand in."""
    places: dict[str, list[str]] = {}
    for node in nodes:
        places.setdefault(anatomy.where(node), []).append(name_of(node))
    hazard, severity, mitigation, help_ = row
    for where, names in places.items():
        yield Finding(hazard, severity, where, mitigation, help_, tuple(names))


# ---- types -------------------------------------------------------------------------------------------------------


def float32_islands(anatomy: Anatomy, sm: int) -> Iterator[Finding]:
    """Products and GELUs in FP32 in a graph whose other products are 16 bits wide.

    LayerNorm and means are left out: their sums belong in FP32. So is a softmax between casts, which TensorRT for
    RTX 1.7 fuses all the same.
    """
    if not anatomy.product_types.intersection(HALVES):
        return
    island = [n for n in anatomy.nodes if n.op_type in (*PRODUCTS, "Gelu") and type_of(n) == "fp32"]
    beyond = {n for n in island if any(_amax(value) > FP16_MAX for value in n.inputs)}
    yield from _by_place(
        anatomy,
        (n for n in island if n not in beyond),
        "FP32 island",
        "warning",
        "leave this place out of Recipe.keep, or cast it with apply_recipe from the FP32 graph",
        "FP32 products run at a fraction of the 16-bit speed, and a cast stands at either end",
    )
    yield from _by_place(
        anatomy,
        beyond,
        "FP32 island",
        "note",
        "Recipe(precision='bf16') or rest='bf16': BF16 reaches as far as FP32",
        f"its weights exceed {FP16_MAX:,.0f}, so FP16 cannot hold them",
    )


def float32_beside_int8(anatomy: Anatomy, sm: int) -> Iterator[Finding]:
    """Attention in FP32 between linear layers in 8 bits, in a file that is not written for a CPU."""
    if _asymmetric(anatomy) or not anatomy.product_types.intersection(("int8", "fp8")):
        return
    apart = [a.scores for a in anatomy.attentions if a.high == "fp32" and not a.low]
    yield from _by_place(
        anatomy,
        apart,
        "FP32 attention beside INT8",
        "warning",
        "Recipe(rest='fp16'), or leave this block out of Recipe.keep",
        "TensorRT fuses no attention in FP32, which costs more than the 8-bit layers save",
    )


def casts(anatomy: Anatomy, sm: int) -> Iterator[Finding]:
    """Casts that could be left out: there and back, twice the same, or of weights."""
    floating = [n for n in anatomy.nodes if n.op_type == "Cast" and n.inputs[0].dtype in FLOATS]
    floating = [n for n in floating if n.outputs[0].dtype in FLOATS]
    back = [n for n in floating if _undone(n)]
    yield from _by_place(
        anatomy,
        back,
        "cast there and back",
        "warning",
        "remove both casts and read the tensor before the first",
        "nothing is computed between the two, and where the middle type is narrower, digits are lost",
    )
    seen: set[tuple] = set()
    again = [n for n in floating if (key := (n.inputs[0], n.outputs[0].dtype)) in seen or seen.add(key)]
    yield from _by_place(
        anatomy,
        again,
        "the same cast twice",
        "note",
        "let all readers share the first cast",
        "each cast writes the tensor once more",
    )
    yield from _by_place(
        anatomy,
        (n for n in floating if array(n.inputs[0]) is not None and array(n.inputs[0]).size > 1),
        "weight cast at run time",
        "note",
        "store the weight in the type that is read: apply_recipe on the FP32 graph does",
        "a runtime that does not fold constants casts it at every call, and the file holds the wider type",
    )


def _undone(cast: ir.Node) -> bool:
    before = cast.inputs[0].producer()
    return before is not None and before.op_type == "Cast" and before.inputs[0].dtype == cast.outputs[0].dtype


def weights_beyond_fp16(anatomy: Anatomy, sm: int) -> Iterator[Finding]:
    """Weights that are not finite, and those that FP16 would make infinite."""
    readers = [(n, _amax(value)) for n in anatomy.nodes for value in n.inputs if _is_weight(value)]
    yield from _by_place(
        anatomy,
        (n for n, amax in readers if not math.isfinite(amax)),
        "weight is not finite",
        "error",
        "convert the checkpoint again, or write the graph in bf16 or fp32",
        "an infinity in a product makes NaN of a whole row",
    )
    yield from _by_place(
        anatomy,
        (n for n, amax in readers if FP16_MAX < amax < math.inf),
        "weight overflows FP16",
        "warning",
        "Recipe(precision='bf16'); with precision='fp16', apply_recipe leaves this layer in FP32",
        f"FP16 ends at {FP16_MAX:,.0f} (IEEE 754 binary16)",
    )


def _is_weight(value: ir.Value | None) -> bool:
    return (
        value is not None and value.const_value is not None and value.dtype in FLOATS and value.const_value.size > 1
    )


def _amax(value: ir.Value | None) -> float:
    if not _is_weight(value):
        return 0.0
    amax = np.abs(array(value).astype(np.float32)).max()
    return float(amax) if np.isfinite(amax) else math.inf


# ---- operators in pieces -----------------------------------------------------------------------------------------


def normalization_in_pieces(anatomy: Anatomy, sm: int) -> Iterator[Finding]:
    """LayerNorm as means, squares and roots; found by its root of a mean."""
    roots = [n for n in anatomy.nodes if n.op_type in ("Sqrt", "Pow") and _averages(n)]
    yield from _by_place(
        anatomy,
        roots,
        "LayerNorm in pieces",
        "warning",
        "import_onnx puts it together; export_onnx writes one LayerNormalization, torch does with opset_version=17 "
        "or above",
        f"one LayerNormalization reads its input once, and keeps its statistics in float32: {_LAYERNORM}",
    )


def _averages(root: ir.Node) -> bool:
    """Whether a mean of squares is at most four steps above: epsilon, Max and Sub may stand between."""
    if root.op_type == "Pow" and not _is_number(root.inputs[1], 0.5):
        return False
    near = list(upstream(root.inputs[0], 4))
    return any(n.op_type == "ReduceMean" for n in near)


def gelu_in_pieces(anatomy: Anatomy, sm: int) -> Iterator[Finding]:
    """GELU as Erf or Tanh with what belongs to it."""
    exact = [n for n in anatomy.nodes if n.op_type == "Erf"]
    tanh = [n for n in anatomy.nodes if n.op_type == "Tanh" and _is_gelu(n)]
    mitigation = "export with opset=20 or above, or import_onnx, which puts it together"
    for severity, nodes, help_ in (
        ("note", exact, "ONNX Runtime fuses Erf after a division by √2, and no other form"),
        ("warning", tanh, "ONNX Runtime does not fuse the tanh form: eight passes over the widest tensor"),
    ):
        text = (
            f"{help_}; Gelu is one operator from opset 20 on ({_GELU}). TensorRT 8.6 needs opset 17: leave it there"
        )
        yield from _by_place(anatomy, nodes, "GELU in pieces", severity, mitigation, text)


def _is_gelu(tanh: ir.Node) -> bool:
    """tanh(√(2/π) (x + 0.044715 x³)): the factor stands directly above."""
    factor = tanh.inputs[0].producer()
    return factor is not None and any(_is_number(value, math.sqrt(2 / math.pi)) for value in factor.inputs)


def _is_number(value: ir.Value | None, number: float) -> bool:
    constant = array(value)
    return (
        constant is not None and constant.size == 1 and math.isclose(float(constant.item()), number, rel_tol=1e-3)
    )


def shapes_at_run_time(anatomy: Anatomy, sm: int) -> Iterator[Finding]:
    """Shapes that are computed inside a block."""
    moving = ("Shape", "Reshape", "Expand", "Slice", "ConstantOfShape")
    inside = [n for n in anatomy.nodes if n.op_type in moving and anatomy.block(n)]
    yield from _by_place(
        anatomy,
        (n for n in inside if n.op_type == "Shape" or any(array(v) is None for v in n.inputs[1:] if v is not None)),
        "shape computed at run time",
        "warning",
        "import_onnx writes shapes as constants with 0 or -1 for the batch; or export with a static batch",
        "small operators on the host between the kernels; some fusions want to know head size and tokens",
    )


# ---- attention ---------------------------------------------------------------------------------------------------


def attention_apart(anatomy: Anatomy, sm: int) -> Iterator[Finding]:
    """Attentions that TensorRT will not compute in one kernel, and why."""
    all_float32 = anatomy.product_types == {"fp32"}
    for attention in anatomy.attentions:
        reason, mitigation = _apart(attention, sm)
        if reason and not (all_float32 and reason.endswith("in FP32")):
            nodes = tuple(map(name_of, (attention.scores, attention.softmax, attention.context)))
            help_ = f"{reason}; then the tokens × tokens matrix goes through memory three times"
            where = f"{attention.block}/scores" if attention.block else anatomy.where(attention.scores)
            yield Finding("attention will not fuse", "warning", where, mitigation, help_, nodes)
    if all_float32 and anatomy.attentions:
        yield Finding(
            "all in FP32",
            "note",
            GRAPH,
            "apply_recipe(graph, Recipe(precision='fp16'), workspace)",
            "TensorRT fuses no attention in FP32, and tensor cores want narrower types",
        )


def _apart(attention: Attention, sm: int) -> tuple[str, str]:
    """Why an attention stays apart and what mends it; two empty strings where it fuses.

    That a Tanh between the products and a second reader of the probabilities prevent fusion, while Mul, Div, Add,
    Identity and a softmax between casts do not, was measured on builds by TensorRT for RTX 1.7.1 for SM86.
    """
    extra = next((n for n in attention.between if n.op_type in ("Tanh", "Clip", "Max")), None)
    if extra is not None:
        return f"{extra.op_type} stands between its products", "export the model without it"
    if _shown(attention):
        return "its probabilities are read elsewhere too", "export the model without attention maps as an output"
    if attention.head_size is None or attention.tokens is None:
        return "", ""
    answer = predict_attention(
        attention.high,
        attention.low,
        attention.sites,
        head_size=attention.head_size,
        tokens=attention.tokens,
        sm=sm,
    )
    if answer.fused:
        return "", ""
    if attention.low is None:
        mitigation = "Recipe(precision='fp16'), with this block left out of Recipe.keep"
    else:
        mitigation = f"Recipe(precision='{attention.low}', scope='linear') leaves attention in 16 bits, fused"
    return (
        answer.reason,
        mitigation if attention.high != "fp32" or not attention.low else f"{mitigation}; rest='fp16'",
    )


def _shown(attention: Attention) -> bool:
    """Whether anybody but the second product reads the probabilities."""
    made = attention.softmax.outputs[0]
    while True:
        if made.is_graph_output() or len(made.uses()) > 1:
            return True
        reader = made.uses()[0][0]
        if reader is attention.context:
            return False
        made = reader.outputs[0]


def off_the_fast_path(anatomy: Anatomy, sm: int) -> Iterator[Finding]:
    """Head sizes and token counts for which there is no INT8 kernel, or no whole tile of a tensor core."""
    for head, tokens in dict.fromkeys((a.head_size, a.tokens) for a in anatomy.attentions):
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
            remedy = "a head size" if head % 8 else "an image size, patch and classifier whose number of tokens"
            yield Finding(
                "size off the tensor cores' tiles",
                "note",
                GRAPH,
                f"where the model can still be chosen, take {remedy} that is a multiple of 8",
                f"{what} fill no whole number of 16-byte rows in FP16: {_TENSOR_CORES}",
            )


# ---- Q/DQ --------------------------------------------------------------------------------------------------------


def quantized_where_it_hurts(anatomy: Anatomy, sm: int) -> Iterator[Finding]:
    """8 bits in front of LayerNorm, softmax, GELU and residual additions."""
    sensitive = [n for n in anatomy.nodes if _is_sensitive(n) and any(map(quantized_type, n.inputs))]
    yield from _by_place(
        anatomy,
        sensitive,
        "Q/DQ in front of a sensitive operator",
        "warning",
        "Recipe(scope='linear') or scope='attention' leave it in floating point",
        "LayerNorm, softmax, GELU and residuals in 8 bits cost a ViT tens of points of accuracy: FQ-ViT, "
        "arXiv:2111.13824, table 2, against PTQ4ViT, arXiv:2111.12293",
    )


def _is_sensitive(node: ir.Node) -> bool:
    if node.op_type == "Add":  # a residual, not a bias or a mask
        return all(array(value) is None for value in node.inputs)
    return node.op_type in ("LayerNormalization", "Softmax", "Gelu", "Erf", "ReduceMean")


def quantized_on_one_side(anatomy: Anatomy, sm: int) -> Iterator[Finding]:
    """Products with Q/DQ on one input only; those inside attention are judged there."""
    own = {n for a in anatomy.attentions for n in (a.scores, a.context)}
    for node in anatomy.nodes:
        if node.op_type not in ("MatMul", "Gemm", "Conv") or node in own:
            continue
        sides = [quantized_type(value) is not None for value in node.inputs[:2]]
        if sides == [True, False]:
            yield from _by_place(
                anatomy,
                [node],
                "Q/DQ on the activation only",
                "warning",
                "quantize the weight too, as apply_recipe does, or remove the pair",
                f"the product stays in floating point and pays for the pair: {_QDQ}",
            )
        elif sides == [False, True]:
            yield from _by_place(
                anatomy,
                [node],
                "Q/DQ on the weight only",
                "note",
                "quantize the activation too, unless a smaller file is all that is wanted",
                f"the product stays in floating point: {_QDQ}",
            )


def pairs_without_product(anatomy: Anatomy, sm: int) -> Iterator[Finding]:
    """DequantizeLinear that leads neither to a product nor to a sensitive operator, which is found by itself."""
    idle = [
        n
        for n in anatomy.nodes
        if n.op_type == "DequantizeLinear"
        and n.inputs[0].producer() is not None
        and not any(_useful(reader) for reader, _ in n.outputs[0].uses())
    ]
    yield from _by_place(
        anatomy,
        idle,
        "Q/DQ without a product",
        "warning",
        "place the pair on the input of the MatMul, Gemm or Conv that shall compute in 8 bits",
        f"rounding without any work in 8 bits: {_QDQ}",
    )


def _useful(reader: ir.Node, steps: int = 6) -> bool:
    """Whether a reader is, or only moves numbers to, something that is judged as a reader of 8 bits.

    A pair on the output of attention's second product is useful although a reshape reads it: TensorRT asks for it.
    """
    if reader.op_type in (*PRODUCTS, *QUANTIZERS) or _is_sensitive(reader):
        return True
    moves = ("Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Split", "Gather", "Identity")
    if not steps or reader.op_type not in moves:
        return False
    return any(_useful(next_, steps - 1) for value in reader.outputs for next_, _ in value.uses())


def written_for_a_cpu(anatomy: Anatomy, sm: int) -> Iterator[Finding]:
    """Zero points other than 0 and biases in 32 bits, which TensorRT refuses."""
    asymmetric = _asymmetric(anatomy)
    if asymmetric:
        yield Finding(
            "zero points other than 0",
            "note",
            GRAPH,
            "for TensorRT write it with Recipe(layout='tensorrt')",
            f"right for a CPU; TensorRT takes symmetric quantization only: {_QDQ}",
            tuple(map(name_of, asymmetric)),
        )
    biases = [
        n for n in anatomy.nodes if n.op_type == "DequantizeLinear" and n.inputs[0].dtype == ir.DataType.INT32
    ]
    yield from _by_place(
        anatomy,
        biases,
        "bias in 32 bits",
        "warning",
        "quantize without the bias (apply_recipe does; QuantizeBias=False for quantize_static)",
        "TensorRT refuses DequantizeLinear on INT32",
    )


def _asymmetric(anatomy: Anatomy) -> list[ir.Node]:
    pairs = (n for n in anatomy.nodes if n.op_type == "QuantizeLinear" and len(n.inputs) > 2)
    return [n for n in pairs if (zero := array(n.inputs[2])) is not None and zero.astype(np.float32).any()]


Detector = Callable[[Anatomy, int], Iterable[Finding]]
DETECTORS: tuple[Detector, ...] = (
    weights_beyond_fp16,
    float32_islands,
    float32_beside_int8,
    attention_apart,
    off_the_fast_path,
    normalization_in_pieces,
    gelu_in_pieces,
    shapes_at_run_time,
    casts,
    quantized_where_it_hurts,
    quantized_on_one_side,
    pairs_without_product,
    written_for_a_cpu,
)
