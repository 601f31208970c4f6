"""The layers of a built engine, in one form, from the lists that each version of TensorRT writes.

- TensorRT for RTX prints them to its VERBOSE log, as ``Name: ..., LayerType: ..., Inputs: [...], ...``.
- ``IEngineInspector`` gives JSON. Until 10 a tensor has one field ``Format/Datatype`` ("Row major linear FP16
  format"); from 11 on ``Format`` and ``Datatype`` are two ("Migrating IEngineInspector Usage from TensorRT 10.x to
  11.x"). A layer that was built without DETAILED verbosity is only its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..records import Engine
from ..sites import Place, place_of

#: The file beside an engine that holds what an inspector says of it.
LAYERS = "layers.json"
#: The names of a type in logs and inspectors -> ours.
TYPES = {
    "float": "fp32",
    "fp32": "fp32",
    "float32": "fp32",
    "half": "fp16",
    "fp16": "fp16",
    "float16": "fp16",
    "bfloat16": "bf16",
    "bf16": "bf16",
    "int8": "int8",
    "fp8": "fp8",
    "int32": "int32",
    "int64": "int64",
    "bool": "bool",
}
#: Operators that only move numbers, as Myelin abbreviates them in the names of its kernels.
MOVES = frozenset(("Move", "Repl", "Conc", "Resh", "Tran", "Slic", "Copy", "Gath", "Sque", "Unsq", "Expa"))

_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_TYPE = re.compile(r"\b(" + "|".join(sorted(TYPES, key=len, reverse=True)) + r")\b", re.IGNORECASE)


class Layer(NamedTuple):
    """One layer of an engine: the ONNX nodes that went into it, and the types that it reads and writes.

    ``inputs`` are activations only; constants are left out where the list tells them apart.
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[Place, ...]:
        """Where its nodes stand, each place once, in order."""
        return tuple(dict.fromkeys(filter(None, map(place_of, self.nodes))))

    @property
    def operations(self) -> tuple[str, ...]:
        """What a generated kernel does, read off its name: ``__myl_ReshCastMul_myl0_3`` -> Resh, Cast, Mul."""
        match = re.match(r"__myl_((?:[A-Z][a-z0-9]*)+)", self.name)
        return tuple(re.findall(r"[A-Z][a-z0-9]*", match[1])) if match else ()

    @property
    def is_attention(self) -> bool:
        """Whether it is a whole fused attention: anchored on the name, because TacticName repeats it."""
        return self.name.startswith("_gemm_mha_v2")

    @property
    def is_product(self) -> bool:
        """Whether it computes a matrix product other than a fused attention's."""
        named = {"gemm", "MatrixMultiply", "FullyConnected", "CaskGemmConvolution"}
        return not self.is_attention and (self.kind in named or "Fc" in self.operations)

    @property
    def is_reformat(self) -> bool:
        """Whether it only moves or repacks numbers."""
        if self.kind in ("Reformat", "Reformatting", "NoOp") or "Reformatting CopyNode" in self.name:
            return True
        return bool(self.operations) and MOVES.issuperset(self.operations)

    @property
    def is_cast(self) -> bool:
        """Whether it changes the type of numbers, alone or beside other work."""
        return self.kind == "Cast" or "Cast" in self.operations

    @property
    def is_opaque(self) -> bool:
        """Whether it is a region that a compiler swallowed whole, so that nothing inside can be seen."""
        return "ForeignNode[" in self.name


def layers_of(engine: Engine) -> list[Layer]:
    """The layers of an engine: from an inspector's JSON beside it, else from its build log; or none."""
    inspector, log = engine.path.with_name(LAYERS), engine.log_path
    if inspector.is_file():
        # 8.6 writes line breaks into strings
        return from_inspector(json.loads(inspector.read_text(), strict=False))
    return from_log(log.read_text(errors="replace")) if log is not None and log.is_file() else []


def from_log(text: str) -> list[Layer]:
    """The layers that TensorRT for RTX lists at the end of a build; the last list where there are several."""
    _, found, listing = text.rpartition("Layers:\nName: ")
    lines = f"Name: {listing}".splitlines() if found else []
    layers = []
    for line in lines:
        if not line.startswith("Name: "):
            break
        layers.append(_from_line(line))
    return layers


def _from_line(line: str) -> Layer:
    def part(begin: str, end: str) -> str:
        return line.partition(begin)[2].partition(end)[0]

    return Layer(
        name=part("Name: ", ", LayerType: "),
        kind=part(", LayerType: ", ", Inputs: ["),
        nodes=tuple(_NODE.findall(line)),
        inputs=_types(part(", Inputs: [", "], Constants: [")),
        outputs=_types(part(", Outputs: [", "], TacticName: ")),
        constants=_types(part(", Constants: [", "], Outputs: [")),
    )


def _types(tensors: str) -> tuple[str, ...]:
    return tuple(TYPES.get(name.lower(), name.lower()) for name in re.findall(r"Datatype: (\w+)", tensors))


def from_inspector(document: Mapping) -> list[Layer]:
    """The layers in the JSON of ``IEngineInspector.get_engine_information`` of 8.6, 10 or 11."""
    return [_from_json(layer) for layer in document.get("Layers", ())]


def _from_json(layer) -> Layer:
    if isinstance(layer, str):  # built without DETAILED verbosity
        return Layer(_NODE.sub("", layer).strip(), "", tuple(_NODE.findall(layer)), (), ())
    return Layer(
        name=layer.get("Name", ""),
        kind=layer.get("LayerType", ""),
        nodes=_nodes(layer),
        inputs=_tensor_types(layer.get("Inputs", ())),
        outputs=_tensor_types(layer.get("Outputs", ())),
        constants=_tensor_types(layer.get("Constants", ())),
    )


def _nodes(layer: Mapping) -> tuple[str, ...]:
    """The ONNX nodes in ``Metadata``; where an old version has none, the parts that a fused layer's name joins."""
    if nodes := _NODE.findall(layer.get("Metadata") or ""):
        return tuple(nodes)
    return tuple(part.strip() for part in layer.get("Name", "").split(" + ") if place_of(part.strip()))


def _tensor_types(tensors: Iterable[Mapping]) -> tuple[str, ...]:
    found = (tensor.get("Datatype") or tensor.get("Format/Datatype") or "" for tensor in tensors)
    return tuple(TYPES[match[1].lower()] if (match := _TYPE.search(text)) else text for text in found)


def timed_rows(times: Iterable[tuple[str, float]], layers: Iterable[Layer]) -> list[dict]:
    """A profiler's names and seconds, joined to block and role by the layers' own names.

    A layer whose nodes stand in several blocks, as an encoder that was compiled into one region does, has no block;
    its role is then ``block00 to block11``. A layer without any node of ours has the role ``unnamed``.
    """
    known = {layer.name: layer for layer in layers}
    rows = []
    for name, seconds in times:
        layer = known.get(name) or Layer(name, "", _nodes({"Name": name}), (), ())
        block, role = _span(layer.places)
        rows.append({"name": name, "type": layer.kind, "seconds": seconds, "block": block, "role": role})
    return rows


def _span(places: tuple[Place, ...]) -> tuple[str | None, str]:
    blocks = sorted({place.block for place in places if place.block})
    if not places:
        return None, "unnamed"
    if len(blocks) > 1:
        return None, f"{blocks[0]} to {blocks[-1]}"
    roles = [place.role for place in places if place.block or not blocks]
    return (blocks[0] if blocks else None), " ".join(dict.fromkeys(roles))
