"""The files of an ONNX model: the graph, and its external weights beside it.

Read without the package onnx, which is not needed where engines only run.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

#: ``key: "location"`` in a serialized StringStringEntryProto (onnx.proto), and the length of its value, a varint:
#: the name of a file of weights.
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x01-\x7f]|[\x80-\xff][\x01-\x7f])", re.DOTALL)


def external_files(model: Path) -> tuple[Path, ...]:
    """The files that hold a model's external weights, below its own folder as the ONNX format demands."""
    content = model.read_bytes()
    names = {_value(content, match) for match in _LOCATION.finditer(content)}
    below = [model.parent / name for name in sorted(names) if ".." not in Path(name).parts]
    return tuple(file for file in below if file.is_relative_to(model.parent) and file.is_file())


def _value(content: bytes, match: re.Match) -> str:
    low, *high = match[1]
    length = (low & 127) + (high[0] << 7 if high else 0)
    return content[match.end() : match.end() + length].decode(errors="replace").replace("\0", "?")


def copy_model(model: Path, folder: Path) -> Path:
    """Copy a model and its external weights into a folder, the model as ``model.onnx``.

    The files are not linked: onnx refuses external weights with several hard links, and a change of the engine's
    file must not change the variant.
    """
    for file in external_files(model):
        copy = folder / file.relative_to(model.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return Path(shutil.copyfile(model, folder / "model.onnx"))
