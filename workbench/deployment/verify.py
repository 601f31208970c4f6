"""Checks a bundle: its manifest, every file, the digest that the receiver trusts, and what its models compute."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ..backends import backend
from ..digests import file_digest
from ..errors import WorkbenchError, path_of
from .classifier import Classifier, open_original, original_engine
from .engine_process import EngineProcess
from .golden import golden_error, golden_fault, read_golden
from .manifest import MANIFEST, SIGNATURE, Manifest, manifest_content, read_manifest
from .target import is_built
from .trust import trust_fault


def verify_bundle(folder, trust: str | os.PathLike | None = None) -> list[str]:
    """What is wrong with a bundle; empty when it is sound.

    Files are checked before anything in them is loaded. Then the original model computes the golden images, and so
    does the engine, in a process of its own, where its runtime needs no GPU; ``deploy`` checks the others.

    Args:
        folder: what ``export_bundle`` wrote.
        trust: the ``bundle_digest``, or the file of the public key, that the sender gave by another way; None
            leaves malice unfound.
    """
    try:
        manifest = read_bundle(folder, trust)
        return list(_model_faults(manifest, Path(folder)))
    except WorkbenchError as error:
        return error.why.split("\n") if isinstance(error, BundleDamaged) else [f"{error.what}: {error.why}"]


class BundleDamaged(WorkbenchError):
    """A bundle's files are not what its manifest says; ``why`` has one line for each fault."""


def read_bundle(folder, trust: str | os.PathLike | None = None) -> Manifest:
    """The manifest of a bundle whose every file was checked; no model was loaded.

    Raises:
        BundleDamaged: a file is missing, was added or changed, is a link, or the digest is not the trusted one.
        WorkbenchError: the manifest cannot be read, or is of a later version.
    """
    folder = path_of("A bundle", folder).expanduser().absolute()
    manifest = trusted_manifest(folder, trust)
    refuse_damage(folder, file_faults(manifest, folder))
    return manifest


def refuse_damage(folder: Path, faults: Mapping[str, str]) -> None:
    """Raise ``BundleDamaged`` when there are faults, as ``file_faults`` gives them."""
    if faults:
        raise BundleDamaged(
            f"The bundle {folder} is not what was written",
            why="\n".join(faults.values()),
            remedy="ask for it again",
        )


def trusted_manifest(folder: Path, trust) -> Manifest:
    """The manifest, after a check of whom the receiver trusts, if anybody.

    An engine of TensorRT can hold code that runs when it is loaded. The engine of the manifest is ``trusted`` only
    where ``trust`` was given and holds; what the record says of itself counts for nothing.

    Raises:
        BundleDamaged: the digest is another, or the signature is not that of the trusted key.
        WorkbenchError: the manifest cannot be read, or is of a later version; or ``trust`` is no digest and no key.
    """
    content = manifest_content(folder)
    if trust is not None and (fault := trust_fault(content, folder, trust)):
        raise BundleDamaged(
            f"The bundle {folder} is not a trusted one",
            why=fault,
            remedy="ask the sender for the bundle, and by another way for its digest or public key",
        )
    manifest = read_manifest(folder, content)
    return replace(manifest, engine=replace(manifest.engine, trusted=trust is not None))


def untrusted_engine(manifest: Manifest) -> str:
    """Why the engine of a bundle is not loaded; empty for one that holds no code or that the receiver trusts."""
    engine = manifest.engine
    if engine.trusted or backend(engine.backend).copies_variant or not is_built(engine):
        return ""
    return (
        f"{engine.label} is not loaded: it can hold code that runs then, and nobody said whom to trust."
        " Give trust=DIGEST, or the sender's public key (in the shell --trust)"
    )


def file_faults(manifest: Manifest, folder: Path) -> dict[str, str]:
    """What is wrong with a bundle's files: name -> fault. Sizes are compared before anything is read."""
    return dict(_file_faults(manifest, folder))


def _file_faults(manifest: Manifest, folder: Path) -> Iterator[tuple[str, str]]:
    found = dict(_entries(folder))
    for name in sorted(set(found) - set(manifest.files)):
        yield name, f"{name} is not listed in the manifest"
    for name, entry in sorted(manifest.files.items()):
        if name not in found:
            yield name, f"{name} is missing"
        elif not stat.S_ISREG(found[name].st_mode):
            yield name, f"{name} is no plain file but a link, a folder or a device"
        elif found[name].st_size != entry["bytes"]:
            yield name, f"{name} has {found[name].st_size:,} bytes, and the manifest says {entry['bytes']:,}"
        elif file_digest(folder / name) != entry["sha256"]:
            yield name, f"{name} has other bytes: its SHA-256 is not the one in the manifest"


def _entries(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file, link and device below a folder but manifest and signature; links to folders are not followed."""
    for base, folders, files in os.walk(folder):
        links = [name for name in folders if Path(base, name).is_symlink()]
        for name in (*files, *links):
            path = Path(base, name)
            own = path in (folder / MANIFEST, folder / SIGNATURE) and stat.S_ISREG(path.lstat().st_mode)
            if not own:
                yield path.relative_to(folder).as_posix(), path.lstat()


def _model_faults(manifest: Manifest, folder: Path) -> Iterator[str]:
    engine, golden = manifest.engine, manifest.golden
    size = engine.variant.graph.preprocessing.size
    images, logits = read_golden(folder, size, manifest.classes)
    reference = original_engine(engine)
    with open_original(engine) as session:
        error = golden_error(Classifier(session, reference), images, logits, reference.batches.opt)
    if fault := golden_fault("the original model", error, golden.original_tolerance):
        yield fault
    if backend(engine.backend).isolated:  # an engine that its target must build is isolated too
        return
    with EngineProcess(engine, manifest.classes) as process:
        error = golden_error(lambda x: process.run(0, x, 600.0), images, logits, engine.batches.opt)
    if fault := golden_fault("the engine", error, golden.engine_tolerance):
        yield fault
