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

from ...dtypes import PRODUCT_TYPES, TENSORRT_NAMES, TYPES, of_tensorrt
from ...errors import WorkbenchError
from ...places import Place, block_index, block_name, place_of
from ...records import Engine
from ..hardware.kernels import operations_of

#: The file beside an engine with the JSON of its inspector.
LAYERS = "layers.json"
#: The kind of a layer that stands for a kernel of a whole attention.
ATTENTION_KERNEL = "attention kernel"
#: Operators that only move numbers, as Myelin abbreviates them in the names of its kernels.
MOVES = frozenset(("Move", "Repl", "Conc", "Resh", "Tran", "Slic", "Copy", "Gath", "Sque", "Unsq", "Expa"))

_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_TENSOR = re.compile(r"\{ Name: (.*?), Dimensions: ")
_TYPE = re.compile(r"\b(" + "|".join(TENSORRT_NAMES) + r")\b", re.IGNORECASE)


class Layer(NamedTuple):
    """One layer of an engine: the ONNX nodes that went into it, and the types that it reads and writes.

    ``inputs`` are activations only; constants are left out where the list marks them. ``reads`` and ``writes`` are
    the names of the tensors of ``inputs`` and ``outputs``, where the list has them.
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[Place, ...]:
        """The places of its nodes, each once, in order."""
        return tuple(dict.fromkeys(filter(None, map(place_of, self.nodes))))

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations of a generated kernel, by its name: ``__myl_ReshCastMul_myl0_3`` -> Resh, Cast, Mul."""
        return operations_of(self.name)

    @property
    def is_attention(self) -> bool:
        """Whether it is a whole fused attention. Its name begins so; tactics of others contain it."""
        return self.kind == ATTENTION_KERNEL or self.name.startswith("_gemm_mha_v2")

    @property
    def is_product(self) -> bool:
        """Whether it computes a matrix product other than a fused attention's."""
        named = {"gemm", "MatrixMultiply", "FullyConnected", "CaskGemmConvolution"}
        return not self.is_attention and (self.kind in named or "Fc" in self.operations)

    @property
    def multiplies_in(self) -> str | None:
        """The type of its product: the wider one of its two sides, as weights in fewer bits are expanded first.

        None for layers without a product, and where no type is listed. No tensor has TF32, but a kernel can.
        """
        if not (self.is_product or self.is_attention):
            return None
        sides = filter(None, (narrowest(self.inputs), self.weights))
        unlisted = "tf32" if "tf32" in self.inputs else None
        return max(sides, key=lambda name: TYPES[name].bits, default=unlisted)

    @property
    def weights(self) -> str | None:
        """The narrowest type of its constants; FP32 beside narrower activations is that of factors and scales."""
        types = [name for name in self.constants if name != "fp32" or narrowest(self.inputs) == "fp32"]
        return narrowest(types, (*PRODUCT_TYPES, "int4"))

    @property
    def scales(self) -> str | None:
        """The type of the scales of a product's blocks: FP8 beside FP4, E8M0 on both sides beside FP8; or None."""
        if self.multiplies_in == "fp4":
            return "fp8" if "fp8" in self.inputs else None
        return "e8m0" if "e8m0" in self.inputs and "e8m0" in self.constants else None

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
        """Whether it is a region that Myelin compiled as a whole, so that its parts are not listed."""
        return self.name.startswith("{ForeignNode[")

    def blocks(self, depth: int | None = None) -> tuple[str, ...]:
        """The blocks that its nodes belong to; for a region, all blocks from its first to its last node.

        Args:
            depth: blocks in the model, for a region that goes on to the head; None where that is not known.
        """
        named = dict.fromkeys(place.block for place in self.places if place.block)
        if not (self.is_opaque and self.places):
            return tuple(named)
        depth = depth if depth is not None else 1 + max(map(block_index, named), default=-1)
        begin, end = _position(self.nodes[0], -1, depth), _position(self.nodes[-1], depth, depth)
        return tuple(map(block_name, range(max(begin, 0), min(end, depth - 1) + 1)))


def narrowest(types: Iterable[str], among: tuple[str, ...] = PRODUCT_TYPES) -> str | None:
    """The type with the fewest bits, of those that count; None where there is none of them."""
    return min((name for name in types if name in among), key=lambda name: TYPES[name].bits, default=None)


def _position(node: str, unknown: int, depth: int) -> int:
    """The index of a node's block: -1 before the blocks, ``depth`` after them, ``unknown`` for other names."""
    place = place_of(node)
    if place is None:
        return unknown
    return block_index(place.block) if place.block else -1 if place.role == "embedding" else depth


def layers_of(engine: Engine) -> list[Layer]:
    """The layers of an engine: from an inspector's JSON beside it, else from its build log; or none."""
    inspector, log = engine.path.with_name(LAYERS), engine.log_path
    if inspector.is_file():
        try:  # the file may have come from a host
            return from_inspector(json.loads(inspector.read_text(), strict=False))  # 8.6: line breaks in strings
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError, OSError) as error:
            raise WorkbenchError(
                f"The list of layers of {engine.label} cannot be read",
                why=f"{type(error).__name__}: {error}"[:400],
                remedy="build the engine again",
            ) from error
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

    inputs, outputs = part(", Inputs: [", "], Constants: ["), part(", Outputs: [", "], TacticName: ")
    return Layer(
        name=part("Name: ", ", LayerType: "),
        kind=part(", LayerType: ", ", Inputs: ["),
        nodes=tuple(_NODE.findall(line)),
        inputs=_types(inputs),
        outputs=_types(outputs),
        constants=_types(part(", Constants: [", "], Outputs: [")),
        reads=tuple(_TENSOR.findall(inputs)),
        writes=tuple(_TENSOR.findall(outputs)),
    )


def _types(tensors: str) -> tuple[str, ...]:
    return tuple(_type_of(name) for name in re.findall(r"Datatype: (\w+)", tensors))


def _type_of(name: str) -> str:
    """Our name of a type, or the name as it is written where the table of types lacks it."""
    kind = of_tensorrt(name)
    return kind.name if kind else name.lower()


def from_inspector(document: Mapping) -> list[Layer]:
    """The layers in the JSON of ``IEngineInspector.get_engine_information`` of 8.6, 10 or 11."""
    return [_from_json(layer) for layer in document.get("Layers", ())]


def _from_json(layer) -> Layer:
    if isinstance(layer, str):  # built without DETAILED verbosity
        return Layer(layer, "", _nodes({"Name": layer}), (), ())
    return Layer(
        name=layer.get("Name", ""),
        kind=layer.get("LayerType", ""),
        nodes=_nodes(layer),
        inputs=_tensor_types(layer.get("Inputs", ())),
        outputs=_tensor_types(layer.get("Outputs", ())),
        constants=_tensor_types(layer.get("Constants", ())),
        reads=_tensor_names(layer.get("Inputs", ())),
        writes=_tensor_names(layer.get("Outputs", ())),
    )


#: Reformats are named after the layer that they serve.
_SERVES = re.compile(r"^Reformatting CopyNode for (?:Input|Output) Tensor \d+ to ")
#: A region's name holds its first and its last node, each perhaps beside others.
_REGION = re.compile(r"^\{ForeignNode\[(.*?)\.\.\.(.*)\]\}$", re.DOTALL)


def _nodes(layer: Mapping) -> tuple[str, ...]:
    """The ONNX nodes in ``Metadata``; where there are none, those in the name.

    On 8.6 ``Metadata`` is empty for reformats and for a region that Myelin compiled; the name of a region holds its
    first and its last node.
    """
    if nodes := _NODE.findall(layer.get("Metadata") or ""):
        return tuple(nodes)
    name = layer.get("Name", "")
    if region := _REGION.match(name):
        return tuple(_nodes({"Name": end})[0] if _nodes({"Name": end}) else end for end in region.groups())
    parts = (part.strip() for part in _SERVES.sub("", name).split(" + "))
    return tuple(part for part in parts if place_of(part))


def _tensor_types(tensors: Iterable[Mapping]) -> tuple[str, ...]:
    """Our names of the tensors' types; a tensor without a type is left out."""
    found = (t.get("Datatype") or t.get("DataType") or t.get("Format/Datatype") or "" for t in tensors)
    given = (text for text in found if text and not text.startswith("N/A"))
    return tuple(_type_of(match[1]) if (match := _TYPE.search(text)) else text for text in given)


def _tensor_names(tensors: Iterable[Mapping]) -> tuple[str, ...]:
    return tuple(t["Name"] for t in tensors if "Name" in t)


def timed_rows(times: Iterable[tuple[str, float]], layers: Iterable[Layer]) -> list[dict]:
    """A profiler's names and seconds, joined to block and role by the layers' own names.

    A layer with nodes of several blocks has no block, and its role names the first and the last: ``block00 to
    block11``, or ``block00 to head`` for an encoder compiled into one region. A layer without any node of ours has
    the role ``unnamed``.
    """
    known = {layer.name: layer for layer in layers}
    rows = []
    for name, seconds in times:
        layer = known.get(name) or Layer(name, "", _nodes({"Name": name}), (), ())
        block, role = _span(layer)
        rows.append({"name": name, "type": layer.kind, "seconds": seconds, "block": block, "role": role})
    return rows


def _span(layer: Layer) -> tuple[str | None, str]:
    if not layer.places:
        return None, "unnamed"
    blocks = sorted({place.block for place in layer.places if place.block})
    first, last = map(_where, (layer.nodes[0], layer.nodes[-1]))
    if layer.is_opaque and first != last:
        return None, f"{first} to {last}"
    if len(blocks) > 1:
        return None, f"{blocks[0]} to {blocks[-1]}"
    roles = [place.role for place in layer.places if place.block or not blocks]
    return (blocks[0] if blocks else None), " ".join(dict.fromkeys(roles))


def _where(node: str) -> str:
    """The block of a node, or its role outside the blocks, such as ``head``."""
    place = place_of(node)
    return place.block or place.role if place else node.split("/")[0]
