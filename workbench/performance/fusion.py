"""Is attention fused, and in which precision? Read from the layers of a built engine, or from its kernels.

A ViT's attention is two matrix products with a softmax between them. TensorRT either turns them into one kernel,
which never writes the tokens x tokens matrix to memory, or runs them separately, which takes most of the time at
many tokens. The proof is a layer named ``_gemm_mha_v2...`` that carries the names of both products and the softmax.
TensorRT 8.6 compiles the whole encoder into one layer; there the proof is a GPU kernel such as ``mha0`` in a block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ..backends.hardware.kernel_trace import tracer_missing
from ..backends.tensorrt.layers import Layer, layers_of
from ..dtypes import PRODUCT_TYPES, TYPES
from ..errors import WorkbenchError, refuse_unless
from ..graphs import model_file
from ..graphs.structure.attention import find_attentions
from ..records import Engine
from .attention_types import attention_types
from .cost import LINEAR_ROLES
from .engine_kernels import known_kernels, trace_kernels
from .layers import runs_here

COLUMNS = ("block", "attention_fused", "attention_type")


def fusion(engine: Engine):
    """The blocks whose attention a built engine computes in one kernel, and the layers beside it.

    Where the list of layers hides the blocks, the answer comes from the kernels: those of a call that was traced
    before, or of one that is traced now if the engine runs here.

    Returns:
        A pandas data frame with a row per block: ``block``; ``attention_fused`` (bool, or None where a compiler
        hides it and the kernels are not known); ``attention_type`` (``fp16``, ``bf16``, ``int8``, ``fp8``, or None
        where it is not fused); ``linear_types``, the types that its linear layers multiply in; ``layers``,
        ``reformats`` and ``casts``, counts; ``fp32``, the roles that compute in float32 only; ``note``.

    Raises:
        WorkbenchError: the engine has no list of layers, or none of its layers carries a block's name; or its
            kernels are needed, and the tool that is here cannot list them.
    """
    rows = fusion_rows(engine)
    if any(row["attention_fused"] is None for row in rows) and runs_here(engine) and not tracer_missing():
        trace_kernels(engine, engine.batches.opt)
        rows = fusion_rows(engine)
    return frame_of(rows)


def attention_fused(engine: Engine) -> str:
    """How many of a model's attentions one kernel computes, and its type: ``12 of 12, fp16``; empty where unknown.

    The attentions are counted in the file: one that stands in no block counts, and no layer tells of it.
    """
    try:
        rows = fusion_rows(engine)
    except WorkbenchError:  # no list of layers, or no block's name in it
        return ""
    fused = [row for row in rows if row["attention_fused"]]
    types = sorted({row["attention_type"] for row in fused} - {None})
    known = [row for row in rows if row["attention_fused"] is not None]
    return ", ".join((f"{len(fused)} of {max(len(rows), attentions_in(engine))}", *types)) if known else ""


def attentions_in(engine: Engine) -> int:
    """How many attentions the graph of an engine has; 0 where its file is gone."""
    path = engine.variant.graph.path
    return len(find_attentions(model_file.load(path))) if path.is_file() else 0


def fusion_rows(engine: Engine) -> list[dict]:
    """``fusion`` as plain rows, from what is known without running the engine."""
    layers, spec = named_layers(engine), engine.variant.graph.spec
    rows = rows_of(layers, spec.depth if spec else None)
    if any(row["attention_fused"] is None for row in rows):
        return _rows_of_kernels(engine) or [_with_remedy(row) for row in rows]
    return rows


def named_layers(engine: Engine) -> list[Layer]:
    """The layers of an engine in which blocks can be told apart.

    Raises:
        WorkbenchError: the engine has no list of layers, or none of its layers carries a block's name.
    """
    refuse_unless(
        isinstance(engine, Engine),
        "Fusion is read from an engine",
        why=f"given was {type(engine).__name__}",
        remedy="give what build_engine returned",
    )
    layers, spec = layers_of(engine), engine.variant.graph.spec
    if not layers:
        raise WorkbenchError(
            f"The layers of {engine.label} are not known",
            why=f"neither an inspector's list nor one in the build log {engine.log_path} was found",
            remedy="build the engine again; an engine of ONNX Runtime has no such list",
        )
    if not any(layer.blocks(spec.depth if spec else None) for layer in layers):
        raise WorkbenchError(
            f"No layer of {engine.label} carries the name of a ViT block",
            why=f"the first of {len(layers)} layers is {layers[0].name!r}",
            remedy="bring the model in with export_onnx or import_onnx, which name nodes by block and role",
        )
    return layers


def _rows_of_kernels(engine: Engine) -> list[dict]:
    """One row per block, from the kernels of a call that was traced before; none without such a call."""
    known, spec = known_kernels(engine), engine.variant.graph.spec
    if known is None or spec is None:
        return []
    placed, batch = known
    rows = rows_of((one.layer for one in placed), spec.depth)
    for row in rows:
        notes = [f"from the kernels of a call of {batch} images"]
        heavy = (one for one in placed if one.kernel.is_product or one.kernel.is_attention)
        if any(one.guess for one in heavy if one.place.block in (row["block"], None)):
            notes.append("which kernel belongs to which block is a guess")
        if row["attention_fused"] and row["attention_type"] is None:
            row["attention_type"] = _type_by_recipe(engine, row["block"])
            notes.append("the type of attention is the recipe's: the kernel's name does not tell it")
        row["note"] = "; ".join(notes)
    return rows


def _type_by_recipe(engine: Engine, block: str) -> str | None:
    """The type that a fused attention has where the engine follows its recipe; none is fused in FP32."""
    high, low, sites = attention_types(engine.variant.recipe, block)
    chosen = low if sites >= {"query", "key", "value", "softmax"} else high
    return None if chosen == "fp32" else chosen


def _with_remedy(row: dict) -> dict:
    missing = tracer_missing()
    remedy = missing.remedy if missing else "fusion(engine) on the GPU of the engine lists its kernels"
    return {**row, "note": f"{row['note']}; {remedy}"} if row["attention_fused"] is None else row


def rows_of(layers: Iterable[Layer], depth: int | None = None) -> list[dict]:
    """One row per block that the layers name. A layer without a name belongs to the block of the layer before it.

    Args:
        layers: in the order of execution.
        depth: blocks in the model, where it is known.
    """
    blocks: dict[str, list[Layer]] = {}
    named: tuple[str, ...] = ()
    for layer in layers:
        if layer.nodes:
            named = layer.blocks(depth)
        for block in named:
            blocks.setdefault(block, []).append(layer)
    return [_row(block, blocks[block]) for block in sorted(blocks)]


def _row(block: str, layers: list[Layer]) -> dict:
    own = [layer for layer in layers if not layer.is_opaque]
    fused = next((layer for layer in own if _is_whole_attention(layer, block)), None)
    hidden = fused is None and len(own) < len(layers)
    return {
        "block": block,
        "attention_fused": None if hidden else fused is not None,
        "attention_type": _attention_type(fused.inputs) if fused else None,
        "linear_types": " ".join(sorted(_linear_types(own, block))),
        "layers": len(layers),
        "reformats": sum(layer.is_reformat for layer in own),
        "casts": sum(layer.is_cast for layer in own),
        "fp32": " ".join(_float_roles(own, block)),
        "note": "one region compiled by Myelin; this version does not show what is inside" if hidden else "",
    }


def _attention_type(inputs: Sequence[str]) -> str | None:
    """The type of queries, keys and values: most inputs of a fused kernel have it; a bias or a mask may not."""
    known = Counter(name for name in inputs if name in PRODUCT_TYPES)
    if not known:
        return inputs[0] if inputs else None
    return min(known, key=lambda name: (-known[name], TYPES[name].bits))


def _is_whole_attention(layer: Layer, block: str) -> bool:
    roles = {place.role for place in layer.places if place.block == block}
    return layer.is_attention and {"scores", "softmax"} <= roles


def _linear_types(layers: Iterable[Layer], block: str) -> set[str]:
    """The types in which the dense layers of a block multiply."""
    types = set()
    for layer in layers:
        roles = {place.role for place in layer.places if place.block == block}
        if layer.is_product and roles.intersection(LINEAR_ROLES) and layer.multiplies_in:
            types.add(layer.multiplies_in)
    return types


def _float_roles(layers: Iterable[Layer], block: str) -> list[str]:
    roles = dict.fromkeys(
        place.role
        for layer in layers
        if {*layer.inputs, *layer.outputs} == {"fp32"} and not layer.is_reformat
        for place in layer.places
        if place.block == block
    )
    return list(roles)


def frame_of(rows: list[dict]):
    """Rows with the keys of ``COLUMNS`` as a pandas data frame."""
    import pandas as pd  # imported here, so that studies read rows without it

    frame = pd.DataFrame(rows)
    frame["attention_type"] = pd.Series([row["attention_type"] for row in rows], dtype=object)  # keeps None
    return frame
