"""NumPy's archives, read without trust: nothing is unpickled, every size is checked before it is allocated."""

from __future__ import annotations

import ast
import contextlib
import math
import re
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import WorkbenchError, refuse_unless, shown
from ..limits import refuse_beyond_memory

MAGIC = b"\x93NUMPY"
#: A header is a few dozen characters; NumPy's own limit.
MOST_HEADER = 10_000
#: How a file begins, as a pattern -> what it is, and what to do with it.
_FOREIGN = (
    (
        rb"\s*(<!doctype|<html|<\?xml|<head)",
        "a web page",
        "the address gave a page and not the file: get it again",
    ),
    (rb"version https://git-lfs", "a pointer of Git LFS, not the file itself", "run git lfs pull"),
    (rb"\x80[\x02-\x05]", "a Python pickle", "unpickling can run code; save the arrays with numpy.savez"),
    (rb"[\x80-\x8f\xde\xdf]", "Flax's msgpack", "restore it with flax.serialization and save it with numpy.savez"),
    (rb"\x1f\x8b", "a gzip file", "unpack it"),
    (rb"\x89HDF", "an HDF5 file", "read it with h5py and save the arrays with numpy.savez"),
    (rb".{8}\{", "a safetensors file", "read it with safetensors.numpy and save the arrays with numpy.savez"),
    (MAGIC, "a single array (.npy)", "save all arrays in one file with numpy.savez"),
    (rb"\x08[\x01-\x20][\x10\x12\x1a\x22\x2a\x32\x3a\x42]", "an ONNX model", "give it to workbench.import_onnx"),
    (rb"\s*[\[{]", "JSON", "give the .npz file itself"),
)


def read_npz(path: Path, what: str, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an .npz file.

    Args:
        path: the file.
        what: what an error calls it: ``The checkpoint x.npz``.
        names: the arrays to read; None reads all.

    Returns:
        Name to array. bfloat16, which NumPy stores as two bytes without a type, stays so: ``|V2``.

    Raises:
        WorkbenchError: the file is none, is of another format (it is named), holds a name twice, an array of
            objects, one whose size is not what its header says, or more than fits in memory.
    """
    remedy = "download or save it again"
    try:
        with _opened(path) as file:
            _check_format(file, path, what)
            with zipfile.ZipFile(file) as archive:
                members = _members(archive, what, names)
                size = sum(member.file_size for member in members.values())
                refuse_beyond_memory(size, f"{what} is too large to be read", "use a machine with more memory")
                return {name: _array(archive, member, f"{what}: {name}") for name, member in members.items()}
    except WorkbenchError:
        raise
    except Exception as error:  # a damaged byte can raise almost anything in zipfile
        why = f"expected arrays of numbers in an undamaged .npz file, found: {type(error).__name__}: {error}"
        raise WorkbenchError(f"{what} cannot be read", why=why[:400], remedy=remedy) from error


def array_names(path: Path) -> list[str]:
    """The names of the arrays in an .npz file that ``read_npz`` could open, sorted."""
    with zipfile.ZipFile(path) as archive:
        return sorted(name.removesuffix(".npy") for name in archive.namelist())


def _opened(path: Path):
    refuse_unless(
        not path.exists() or path.is_file(),
        f"{path} cannot be read",
        why="it is no plain file",
        remedy="give the path of an .npz file",
    )
    return open(path, "rb")


def _check_format(file: BinaryIO, path: Path, what: str) -> None:
    """Name a file of another format for what it is."""
    begin = file.read(64)
    file.seek(0)
    if begin.startswith(b"PK"):
        return
    found, remedy = "no .npz archive", "give an .npz file that was written whole"
    if not begin:
        found, remedy = "an empty file", "get it again"
    for pattern, name, what_to_do in _FOREIGN:
        if re.match(pattern, begin, re.IGNORECASE | re.DOTALL):
            found, remedy = name, what_to_do
            break
    raise WorkbenchError(
        f"{what} cannot be read", why=f"{path.name} is {found}: it begins with {shown(begin[:16])}", remedy=remedy
    )


def _members(archive: zipfile.ZipFile, what: str, names: Collection[str] | None) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    foreign = next((entry.filename for entry in entries if re.search(r"(^|/)data\.pkl$", entry.filename)), None)
    refuse_unless(
        foreign is None,
        f"{what} cannot be read",
        why=f"it is a PyTorch checkpoint: it holds {foreign}",
        remedy="export the model as ONNX and use workbench.import_onnx",
    )
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        refuse_unless(
            name not in members,
            f"{what} holds an array twice: {name}",
            why="two members of the archive have this name, and programs differ in which they read",
            remedy="save it again with numpy.savez",
        )
        members[name] = entry
    return {name: entry for name, entry in members.items() if names is None or name in names}


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, what: str) -> np.ndarray:
    """One array; its bytes must be as many as its header says."""
    with archive.open(member) as file:
        dtype, shape, by_columns, begin = _header(file, what)
        expected = math.prod(shape) * dtype.itemsize
        refuse_unless(
            member.file_size - begin == expected,
            f"{what} is damaged",
            why=f"its header says {dtype} {shape}, {expected:,} bytes; it has {member.file_size - begin:,}",
            remedy="download or save it again",
        )
        content = bytearray(expected)
        filled = 0
        while filled < expected and (count := file.readinto(memoryview(content)[filled:])):  # ty: ignore
            filled += count
        file.read(1)  # the end of the member, where zipfile checks its CRC
    refuse_unless(
        filled == expected,
        f"{what} is cut short",
        why=f"{filled:,} of {expected:,} bytes came",
        remedy="download or save it again",
    )
    flat = np.frombuffer(content, dtype)
    return flat.reshape(shape[::-1]).T if by_columns else flat.reshape(shape)


def _header(file, what: str) -> tuple[np.dtype, tuple[int, ...], bool, int]:
    """Type, shape, whether columns come first, and where the numbers begin (numpy.lib.format, version 1 to 3)."""
    start = file.read(8)
    width = {1: 2, 2: 4, 3: 4}.get(start[6] if len(start) == 8 else 0)
    refuse_unless(
        start.startswith(MAGIC) and width is not None,
        f"{what} is no array",
        why=f"expected NumPy's header, found {start!r}",
        remedy="save it with numpy.savez",
    )
    size = file.read(width)
    length = int.from_bytes(size, "little")
    text = file.read(length) if length <= MOST_HEADER else b""
    with contextlib.suppress(Exception):  # anything but three plain entries is refused below
        fields = ast.literal_eval(text.decode("latin1").strip())
        dtype, shape = np.dtype(fields["descr"]), fields["shape"]
        plain = not dtype.hasobject and dtype.fields is None and dtype.shape == () and dtype.itemsize > 0
        if plain and all(type(n) is int and n >= 0 for n in shape) and len(shape) <= 32:
            return dtype, tuple(shape), bool(fields["fortran_order"]), 8 + len(size) + length
    raise WorkbenchError(
        f"{what} is no array of numbers",
        why=f"its header is {shown(text)}",
        remedy="save it with numpy.savez; arrays of Python objects are never unpickled",
    )
