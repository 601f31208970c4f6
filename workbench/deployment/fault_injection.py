"""Breaks a bundle on purpose, to see that whoever receives it notices."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from ..digests import file_digest
from ..errors import path_of, refuse_unless
from .manifest import MANIFEST, plain_name, read_manifest


def engine_file(bundle) -> str:
    """The name of the engine's main file in a bundle, such as ``engine/model.onnx``."""
    bundle = _folder(bundle)
    return read_manifest(bundle).engine.path.relative_to(bundle).as_posix()


def flip_bit(bundle, name: str, place: float = 0.5) -> None:
    """Change one bit of a file, as a bad disk does; the checksums stay.

    Args:
        bundle: the folder, which is changed in place.
        name: of the file in the bundle.
        place: where in the file, 0 to 1.
    """
    file = _listed(bundle, name)
    content = bytearray(file.read_bytes())
    content[min(int(place * len(content)), len(content) - 1)] ^= 1
    file.write_bytes(content)


def replace_file(bundle, name: str, content: bytes) -> None:
    """Write other bytes into a file, and their checksum beside it, as an attacker does."""
    file = _listed(bundle, name)
    file.write_bytes(content)
    entry = {"sha256": file_digest(file), "bytes": len(content)}
    change_manifest(bundle, lambda values: values["files"].update({name: entry}))


def claim_runtime(bundle, backend: str, runtime: str) -> None:
    """Let the manifest say that another runtime built the engine.

    Args:
        bundle: the folder, which is changed in place.
        backend: ``tensorrt``, for example.
        runtime: its name and version, ``TensorRT 10.3.0``.
    """

    def claim(values: dict) -> None:
        engine = values["engine"]
        engine.update(backend=backend, environment={**engine["environment"], "runtime": runtime})

    change_manifest(bundle, claim)


def change_manifest(bundle, change: Callable[[dict], object]) -> None:
    """Change a bundle's manifest in place, by a function of its values."""
    path = _folder(bundle) / MANIFEST
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def _folder(bundle) -> Path:
    return path_of("A bundle", bundle).expanduser().absolute()


def _listed(bundle, name: str) -> Path:
    file = _folder(bundle) / plain_name(name)
    refuse_unless(
        file.is_file(),
        f"The bundle has no file {name}",
        why=f"there is no {file}",
        remedy="name a file of the bundle, such as engine/model.onnx",
    )
    return file
