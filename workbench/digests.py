"""Digests: a short name for the content of values, arrays and files, the same on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from . import records


def digest(*parts) -> str:
    """The SHA-256 of values: records, JSON values, bytes, arrays (shape, dtype and bytes) and files (their bytes).

    Returns:
        The first 32 hexadecimal digits.

    Raises:
        TypeError: a value is none of these, such as a set or an array of objects.
    """
    total = hashlib.sha256()
    for part in parts:
        total.update(_canonical_bytes(part))
    return total.hexdigest()[:32]


def _canonical_bytes(part) -> bytes:
    if isinstance(part, bytes | bytearray | memoryview):
        return b"bytes:" + hashlib.sha256(part).digest()
    if isinstance(part, Path):
        return b"file:" + bytes.fromhex(file_digest(part))
    if hasattr(part, "tobytes") and hasattr(part, "dtype"):
        if part.dtype.hasobject:
            raise TypeError("an array of objects has no bytes of its own to digest")
        return f"array:{part.dtype}:{part.shape}:".encode() + hashlib.sha256(part.tobytes()).digest()
    if isinstance(part, Mapping):
        items = (_canonical_bytes(str(key)) + _canonical_bytes(part[key]) for key in sorted(part, key=str))
        return b"{" + b"".join(items) + b"}"
    if isinstance(part, list | tuple):
        return b"[" + b"".join(map(_canonical_bytes, part)) + b"]"
    return b"json:" + json.dumps(records.encode(part), sort_keys=True).encode() + b";"


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """The digest of a file's bytes, as hexadecimal digits: 64 of SHA-256.

    Raises:
        OSError: the file cannot be read.
    """
    total = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()
