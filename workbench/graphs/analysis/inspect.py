"""An ONNX model as tables: every node with its place and type, every block, and every finding."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from ...backends import refused_nodes
from ...backends.hardware.cards import capability
from ...errors import refuse_unless
from ...records import Engine, Graph, Variant
from ..structure.compute_type import type_of
from ..structure.macs import macs
from ..structure.operators import CARRIERS, PRODUCTS, QUANTIZERS, name_of
from ..structure.placement import PlacedModel, read
from ..structure.source_lines import source_of
from ..structure.values import array, lengths
from . import findings

#: The runtimes that are asked about a file of unknown purpose.
RUNTIMES = ("onnxruntime", "tensorrt-rtx")


@dataclass(frozen=True, eq=False)
class Inspection:
    """What ``inspect`` found.

    Attributes:
        path: the file.
        nodes: a row per node in the order of the file: ``name``, ``type`` (the operator), ``block`` and ``role``
            (None where unknown), ``computes`` (fp32, fp16, bf16, int8, fp8), ``shape`` of the output (``?`` for a
            length that the file leaves open), ``parameters``, ``macs`` of one call, or of one image where the batch
            is open (NA where a shape or an operator is not known), and ``source``, the line of Python that it comes
            from, where the exporter stamped it.
        blocks: a row per block: ``block``, ``nodes``, ``parameters``, ``macs``, ``products`` (the types that its
            products compute in), ``heads``, ``head_size``, ``tokens``, ``attention`` (the type its attention
            computes in), ``casts``, ``quantizers`` and ``findings``.
        findings: a row per hazard and place: ``hazard``, ``severity``, ``where``, ``mitigation``, ``help``,
            ``nodes`` (names).
        asked: the runtimes that were asked whether they take the file.
    """

    path: Path
    nodes: pd.DataFrame
    blocks: pd.DataFrame
    findings: pd.DataFrame
    asked: tuple[str, ...]

    @cached_property
    def roles(self) -> pd.DataFrame:
        """The nodes summed up by block and role, in order of appearance.

        Columns: ``block``, ``role``, ``nodes``, ``parameters``, ``macs`` and ``computes``, the type of its
        products, or of its first other node that computes anything.
        """
        placed = self.nodes.dropna(subset="role")
        groups = placed.groupby(["block", "role"], sort=False, dropna=False)
        summed = groups.agg(nodes=("name", "size"), parameters=("parameters", "sum"), macs=("macs", _sum))
        # of a LayerNorm between casts, the LayerNorm says what is computed
        weight = 2 * placed.type.isin(PRODUCTS) - placed.type.isin(CARRIERS)
        typed = placed.assign(weight=weight).dropna(subset="computes")
        typed = typed.sort_values("weight", ascending=False, kind="stable")
        first = typed.groupby(["block", "role"], sort=False, dropna=False).computes.first()
        return summed.join(first).reset_index()


def inspect(model, card: str | None = None, runtimes: Sequence[str] | None = None) -> Inspection:
    """Describe an ONNX model of any origin as far as its structure allows.

    Args:
        model: the path of an ONNX file, or a Graph, Variant or Engine.
        card: the GPU to judge by, ``T4`` or ``SM86``; None judges by the newest.
        runtimes: those that are asked whether they take the file, as far as they are installed. None asks those
            that a Variant or Engine is meant for, or ``RUNTIMES`` about any other model; an empty tuple asks none.

    Raises:
        WorkbenchError: the file is no ONNX model, or the card is not known.
    """
    if isinstance(model, Engine):
        model = model.variant
    if runtimes is None:
        runtimes = model.runtimes if isinstance(model, Variant) else RUNTIMES
    path = _path_of(model)
    runtimes = (runtimes,) if isinstance(runtimes, str) else runtimes
    sm = findings.NEWEST if card is None else capability(card)
    placed = read(path)
    refused = {name: rows for name in runtimes if (rows := refused_nodes(name, path)) is not None}
    found = findings.ordered([*findings.refused(placed, refused), *findings.find(placed, sm)])
    nodes, frame = _nodes(placed), pd.DataFrame(found, columns=list(findings.Finding._fields))
    return Inspection(path, nodes, _blocks(placed, nodes, frame), frame, tuple(refused))


def _path_of(model) -> Path:
    refuse_unless(
        isinstance(model, Graph | Variant | str | os.PathLike),
        "inspect describes ONNX files, graphs, variants and engines",
        why=f"it was given a {type(model).__name__}",
        remedy="give the path of an .onnx file, or what export_onnx, apply_recipe or build_engine made",
    )
    path = Path(model.path if isinstance(model, Graph | Variant) else model).absolute()
    refuse_unless(
        path.is_file(),
        f"There is no file {path}",
        why="the path names none",
        remedy="give the path of an .onnx file",
    )
    return path


_NODE_COLUMNS = ("name", "type", "block", "role", "computes", "shape", "parameters", "macs", "source")


def _nodes(placed: PlacedModel) -> pd.DataFrame:
    seen: set[str] = set()
    rows = []
    for node in placed.nodes:
        place = placed.places[node]
        rows.append(
            (
                name_of(node),
                node.op_type,
                place.block if place else None,
                place.role if place else None,
                type_of(node),
                "×".join("?" if n is None else str(n) for n in lengths(node.outputs[0])),
                _new_parameters(node, seen),
                macs(node),
                source_of(node),
            )
        )
    frame = pd.DataFrame(rows, columns=list(_NODE_COLUMNS))
    texts = {name: object for name in ("block", "role", "computes", "source")}
    return frame.astype({**texts, "parameters": "int64", "macs": "Int64"})


def _new_parameters(node, seen: set[str]) -> int:
    """Elements of the constants that a node reads and no earlier one does.

    Numbers, sizes and axes are none, nor are the scales of a quantization.
    """
    total = 0
    for value in node.inputs[:1] if node.op_type in ("QuantizeLinear", "DequantizeLinear") else node.inputs:
        constant = array(value)
        if constant is None or value.name in seen or _is_index(constant):
            continue
        seen.add(value.name)
        total += constant.size if constant.size > 1 else 0
    return total


def _sum(macs: pd.Series):
    """NA where any is unknown: half a sum would look like a whole one."""
    return macs.sum(skipna=False)


def _is_index(constant) -> bool:
    return constant.dtype.kind in "iub" and constant.itemsize > 1


_BLOCK_COLUMNS = (
    *("block", "nodes", "parameters", "macs", "products", "heads", "head_size", "tokens", "attention"),
    *("casts", "quantizers", "findings"),
)


def _blocks(placed: PlacedModel, nodes: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    attentions = {placed.block_of(one): one for one in placed.attentions}
    rows = []
    for block, own in nodes.dropna(subset="block").groupby("block"):
        attention = attentions.get(block)
        products = own[own.type.isin(PRODUCTS)]
        rows.append(
            (
                block,
                len(own),
                own.parameters.sum(),
                _sum(own.macs),
                " ".join(sorted(products.computes.dropna().unique())),
                attention and attention.heads,
                attention and attention.head_size,
                attention and attention.tokens,
                attention and type_of(attention.scores),
                int((own.type == "Cast").sum()),
                int(own.type.isin(QUANTIZERS).sum()),
                int(found["where"].str.split("/").str[0].eq(block).sum()),
            )
        )
    return pd.DataFrame(rows, columns=list(_BLOCK_COLUMNS))
