"""The door for ONNX files of others: one check of a whole file before anything else reads it.

What comes in is a path; what passes has text where text belongs, tensors whose sizes are those of their bytes,
external weights inside its own folder, and nodes that read what there is. Files of the workspace are not checked
again: their digest is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from onnx import numpy_helper

from ..errors import WorkbenchError, refuse_unless, shown
from ..files import looked_for
from ..limits import memory_bytes, refuse_beyond_memory

#: No tensor of a ViT has an axis of this length.
MOST_AN_AXIS = 1 << 40
#: Operator -> which of its inputs is a shape, or factors of one, and so decides how much memory it takes.
_SIZES = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "Pad": 1, "Resize": 3}
_LOOPS = ("Loop", "Scan")
_REMEDY = "export the model again, or get the file again: it was not written by an exporter, or it is damaged"


def check_onnx(path: Path) -> onnx.ModelProto:
    """The model in a file, without its external weights, after every check.

    Raises:
        WorkbenchError: the file is no ONNX model, or one that no program should load.
    """
    model = _parsed(path)
    for field, text in _strings(model):
        _refuse(isinstance(text, str), path, f"its field {field} holds bytes where text belongs")
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto):
            _check_tensor(message, path)
        elif isinstance(message, onnx.TensorShapeProto.Dimension):
            _refuse(0 <= message.dim_value < MOST_AN_AXIS, path, f"it has an axis of length {message.dim_value}")
    _refuse(len(model.graph.node) > 0 and len(model.opset_import) > 0, path, "it holds no operators")
    _check_graph(model.graph, frozenset(), path)
    return model


def has_loops(path: Path) -> bool:
    """Whether a file that passed the door has an operator that may never end."""
    return any(isinstance(m, onnx.NodeProto) and m.op_type in _LOOPS for m in _messages(_parsed(path)))


def _refuse(condition: bool, path: Path, why: str) -> None:
    refuse_unless(condition, f"{path} cannot be read as an ONNX model", why=why[:400], remedy=_REMEDY)


def _parsed(path: Path) -> onnx.ModelProto:
    refuse_unless(
        path.is_file(),
        f"{path} cannot be read as an ONNX model",
        why="it is no plain file" if path.exists() else "there is no such file",
        remedy=f"give the path of an .onnx file{looked_for(path)}",
    )
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except (OSError, DecodeError, ValueError, MemoryError) as error:
        raise WorkbenchError(
            f"{path} cannot be read as an ONNX model", why=f"{type(error).__name__}: {error}", remedy=_REMEDY
        ) from error
    return model


# ---- text --------------------------------------------------------------------------------------------------------


def _messages(message: Message) -> Iterator[Message]:
    """A message and all inside it."""
    waiting = [message]
    while waiting:
        yield (one := waiting.pop())
        for field, value in one.ListFields():
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                waiting.extend([value] if isinstance(value, Message) else value)


def _strings(message: Message) -> Iterator[tuple[str, object]]:
    """Every field of text, with its text, or None where its bytes are no UTF-8."""
    for one in _messages(message):
        kind: Any = one.DESCRIPTOR
        for field in kind.fields:
            if field.type == FieldDescriptor.TYPE_STRING:
                yield f"{kind.name}.{field.name}", _text(one, field.name)


def _text(message: Message, name: str) -> str | None:
    try:
        value = getattr(message, name)
        text = value if isinstance(value, str) else "".join(value)
        text.encode()
    except (UnicodeError, TypeError):
        return None
    return text


# ---- tensors -----------------------------------------------------------------------------------------------------


def _check_tensor(tensor: onnx.TensorProto, path: Path) -> None:
    """Refuse a tensor whose type is none, or whose bytes are not as many as its shape and type say."""
    name = shown(tensor.name)
    _refuse(
        all(0 <= n < MOST_AN_AXIS for n in tensor.dims), path, f"tensor {name} has the shape {list(tensor.dims)}"
    )
    known = tensor.data_type in onnx.TensorProto.DataType.values() and tensor.data_type != 0
    _refuse(known, path, f"tensor {name} has the unknown type {tensor.data_type}")
    if tensor.data_type == onnx.TensorProto.STRING:
        return
    bits = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4}.get(onnx.TensorProto.DataType.Name(tensor.data_type))
    bits = bits or 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    size = -(-math.prod(tensor.dims) * bits // 8)
    refuse_beyond_memory(size, f"Tensor {name} of {path} is too large", _REMEDY)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _check_external({entry.key: entry.value for entry in tensor.external_data}, size, name, path)
    elif tensor.HasField("raw_data"):
        found = len(tensor.raw_data)
        _refuse(found == size, path, f"tensor {name} has {found} bytes, and its shape and type need {size}")
    else:
        _check_listed(tensor, name, path)


def _check_listed(tensor: onnx.TensorProto, name: str, path: Path) -> None:
    """Numbers in a list of their own type; several small ones share an entry of int32."""
    try:
        found = numpy_helper.to_array(tensor).size
    except Exception as error:  # onnx raises what its conversion happens to trip over
        raise WorkbenchError(
            f"{path} cannot be read as an ONNX model", why=f"tensor {name}: {error}"[:400], remedy=_REMEDY
        ) from error
    _refuse(found == math.prod(tensor.dims), path, f"tensor {name} has {found} numbers")


def _check_external(entries: Mapping[str, str], size: int, name: str, path: Path) -> None:
    """External weights lie in the model's own folder, and the part that is named is there."""
    location, folder = entries.get("location", ""), path.parent.resolve()
    file = (folder / location).resolve() if location and "\0" not in location else folder
    inside = file.is_relative_to(folder) and not Path(location).is_absolute() and "\\" not in location
    _refuse(inside and file != folder, path, f"tensor {name} names weights outside its folder: {shown(location)}")
    _refuse(file.is_file(), path, f"tensor {name} names the weights {shown(location)}, which are not there")
    offset, length = (entries.get(key, default) for key, default in (("offset", "0"), ("length", str(size))))
    numbers = all(text.isascii() and text.isdigit() and len(text) < 19 for text in (offset, length))
    whole = numbers and int(length) == size and int(offset) + int(length) <= file.stat().st_size
    _refuse(whole, path, f"tensor {name} of {size} bytes names {length} bytes at {offset} of {shown(location)}")


# ---- nodes -------------------------------------------------------------------------------------------------------


def _check_graph(graph: onnx.GraphProto, outside: frozenset[str], path: Path) -> None:
    """Refuse names that nothing makes or that two nodes make, and shapes that no memory holds."""
    given = [*(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)]
    given += [tensor.values.name for tensor in graph.sparse_initializer]
    made = [name for node in graph.node for name in node.output if name]
    twice = next((name for name in made if made.count(name) > 1), None) if len(set(made)) < len(made) else None
    clash = twice or next(iter(set(made) & set(given)), None)
    _refuse(clash is None, path, f"two of its values have the name {shown(clash)}")
    known = outside.union(given, made)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        missing = next((name for name in node.input if name and name not in known), None)
        _refuse(missing is None, path, f"node {shown(node.name)} reads {shown(missing)}, which nothing makes")
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.HasField("t"):
                constants.update(dict.fromkeys(node.output, attribute.t))
            for body in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                _check_graph(body, known, path)
        _check_size(node, constants, path)
    lost = next((value.name for value in graph.output if value.name not in known), None)
    _refuse(lost is None, path, f"nothing makes its output {shown(lost)}")


def _check_size(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], path: Path) -> None:
    place = _SIZES.get(node.op_type, len(node.input))
    tensor = constants.get(node.input[place]) if place < len(node.input) else None
    if (
        tensor is None
        or tensor.data_location == onnx.TensorProto.EXTERNAL
        or tensor.data_type != onnx.TensorProto.INT64
    ):
        return
    lengths = [abs(int(n)) for n in np.atleast_1d(numpy_helper.to_array(tensor)) if n]
    _refuse(
        4 * math.prod(lengths) <= memory_bytes(), path, f"{node.op_type} {shown(node.name)} makes {lengths} numbers"
    )
