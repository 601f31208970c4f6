"""The manifest of a bundle: what the folder holds, and the SHA-256 of every file in it.

A bundle is a folder of plain files::

    manifest.json            this record
    README.md                for whoever receives the bundle
    engine/…                 what the backend compiled, or the variant that the target must compile
    original/model.onnx      the FP32 model, with its external weights if it has any
    golden/images.npy        normalised images (N, H, W, 3) float32
    golden/logits.npy        the original's logits for them, (N, classes) float32
    measurement.json         the measurement that justified the engine, where one was given
    manifest.sig             the sender's signature of the manifest, where it was signed

A manifest comes from somebody else: nothing in it is believed before it is checked, and no size in it is allocated.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ..errors import WorkbenchError, refuse_unless
from ..records import Engine, decode, encode, whole
from .drift import Reference

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
MEASUREMENT = "measurement.json"
#: The version of the layout of bundles. A reader refuses a later one.
FORMAT = 1
#: Limits on what a manifest may ask a reader to do.
MAX_MANIFEST_BYTES, MAX_FILES, MAX_BYTES = 4 << 20, 1000, 1 << 40
#: Where the engine of a bundle that was read comes from; no host has this name.
SENDER = "the bundle's sender"
_FOREIGN = "do not use this bundle; ask for it again, and for its digest by another way"


@dataclass(frozen=True)
class Golden:
    """How far logits for the golden images may lie from the original's, at most, in every number.

    Attributes:
        original_tolerance: for the original model on the receiver's machine.
        engine_tolerance: for the engine.
        executed: whether the engine's tolerance comes from a run of the engine; else from its precision.
    """

    original_tolerance: float
    engine_tolerance: float
    executed: bool = True

    def __post_init__(self):
        for name in ("original_tolerance", "engine_tolerance"):
            value = getattr(self, name)
            refuse_unless(
                isinstance(value, int | float) and math.isfinite(value) and value > 0,
                f"{name} must be a number above 0",
                why=f"it is {value!r}",
                remedy=_FOREIGN,
            )


@dataclass(frozen=True)
class Manifest:
    """What a bundle holds. The paths of ``engine`` lie in the bundle's folder.

    Attributes:
        name: the model's name, as the service's addresses have it: letters, digits, ``_``, ``.`` and ``-``.
        classes: how many logits an image has.
        files: name of a file, relative to the folder -> its ``sha256`` and its ``bytes``.
        reference: what inputs and outputs looked like when the bundle was made.
        licence: under what terms weights and code may be used.
        workbench: the version that wrote the bundle.
    """

    name: str
    classes: int
    engine: Engine
    golden: Golden
    reference: Reference
    files: Mapping[str, Mapping] = field(default_factory=dict)
    licence: str = ""
    workbench: str = ""
    format: int = FORMAT

    def __post_init__(self):
        fits = isinstance(self.name, str) and re.fullmatch(r"[\w.-]{1,200}", self.name, re.ASCII)
        refuse_unless(
            bool(fits) and (whole(self.classes) or 0) > 0 and len(self.reference.class_counts) == self.classes,
            "A manifest names a model, and counts its classes",
            why=f"the name is {str(self.name)[:80]!r}, the classes are {str(self.classes)[:80]!r}, and there are "
            f"{len(self.reference.class_counts)} in its reference",
            remedy=_FOREIGN,
        )


def plain_name(name) -> PurePosixPath:
    """The name of a file in a bundle: relative, without steps upwards, the same on every system.

    Raises:
        WorkbenchError: the name leads out of the folder, or means different files on different systems.
    """
    path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath("/")
    plain = re.fullmatch(r"[^\\:\x00-\x1f]{1,400}", str(name)) and path.as_posix() == name
    refuse_unless(
        bool(plain) and bool(path.parts) and not path.is_absolute() and ".." not in path.parts,
        f"The manifest names a file {str(name)[:80]!r}",
        why="it would lie outside the bundle, or is no plain relative name",
        remedy=_FOREIGN,
    )
    return path


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write ``manifest.json``: the same record gives the same bytes."""
    values = encode(manifest, lambda path: path.relative_to(folder).as_posix())
    text = json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / MANIFEST).write_bytes(text.encode() + b"\n")


def read_manifest(folder: Path, content: bytes | None = None) -> Manifest:
    """The checked record of a bundle's manifest; the files that it names are not looked at.

    Its engine comes from elsewhere and nobody trusts it, whatever the record says of itself: see ``verify``.

    Args:
        folder: the bundle's.
        content: the manifest's bytes where they were read before, so that what was trusted is what is used.

    Raises:
        WorkbenchError: there is none, it is no manifest, it is of a later version, or it names files outside.
    """
    try:
        values = json.loads(manifest_content(folder) if content is None else content)
        _check_format(values)
        _check_files(values["files"])
        manifest = decode(Manifest, values, lambda name: folder / plain_name(name))
        _check_paths(manifest, folder)
        return replace(manifest, engine=replace(manifest.engine, host=SENDER, trusted=False))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, StopIteration) as error:
        why = f"{type(error).__name__}: {error}"[:400]
        raise WorkbenchError(f"{folder / MANIFEST} cannot be read", why=why, remedy=_FOREIGN) from error


def bundle_digest(folder) -> str:
    """The SHA-256 of a bundle's manifest, which holds the SHA-256 of every other file: it stands for the whole.

    A sender gives it to the receiver by another way than the bundle: whoever can change a file can change the
    checksum beside it.
    """
    return digest_of(manifest_content(Path(folder)))


def digest_of(content: bytes) -> str:
    """The digest of a bundle whose manifest has these bytes."""
    return hashlib.sha256(content).hexdigest()


def manifest_content(folder: Path) -> bytes:
    """The bytes of a bundle's manifest.

    Raises:
        WorkbenchError: there is none, or it is too large.
    """
    path = folder / MANIFEST
    refuse_unless(
        path.is_file() and not path.is_symlink(),
        f"{folder} is no bundle",
        why=f"it has no file {MANIFEST}",
        remedy="give the folder that export_bundle wrote",
    )
    with open(path, "rb") as file:
        content = file.read(MAX_MANIFEST_BYTES + 1)
    refuse_unless(
        len(content) <= MAX_MANIFEST_BYTES,
        f"{path} is too large",
        why=f"a manifest has at most {MAX_MANIFEST_BYTES:,} bytes",
        remedy=_FOREIGN,
    )
    return content


def _check_format(values) -> None:
    found = whole(values["format"])
    refuse_unless(
        found is not None and 1 <= found <= FORMAT,
        "This workbench does not read the bundle",
        why=f"its format is {str(values['format'])[:80]}, and formats 1 to {FORMAT} are known here",
        remedy="install the version of the workbench that wrote it, or a later one",
    )


def _check_files(files) -> None:
    refuse_unless(
        isinstance(files, dict) and 0 < len(files) <= MAX_FILES,
        "The manifest does not list the bundle's files",
        why=f"a list has 1 to {MAX_FILES} files",
        remedy=_FOREIGN,
    )
    total = 0
    for name, entry in files.items():
        plain_name(name)
        size = whole(entry["bytes"])
        well = size is not None and size >= 0 and re.fullmatch(r"[0-9a-f]{64}", entry["sha256"])
        total += size or 0
        refuse_unless(
            bool(well) and total <= MAX_BYTES,
            f"The manifest lists {name!r} wrongly",
            why=f"its size is {str(entry['bytes'])[:80]}; a bundle has at most {MAX_BYTES:,} bytes in all",
            remedy=_FOREIGN,
        )


def _check_paths(manifest: Manifest, folder: Path) -> None:
    """Refuse a manifest whose engine, variant or graph is a file that it does not list."""
    variant = manifest.engine.variant
    needed = [p.relative_to(folder).as_posix() for p in (manifest.engine.path, variant.path, variant.graph.path)]
    missing = [name for name in needed if name not in manifest.files]
    refuse_unless(
        not missing,
        "The manifest does not list the file of a model",
        why=f"{', '.join(missing)} is not among its files",
        remedy=_FOREIGN,
    )
