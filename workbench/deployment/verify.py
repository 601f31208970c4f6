"""Checks a bundle: its manifest, every file, the digest that the receiver trusts, and what its models compute."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..backends import backend
from ..digests import file_digest
from ..errors import WorkbenchError, path_of
from .classifier import Classifier, open_original, original_engine
from .engine_process import EngineProcess
from .golden import golden_error, golden_fault, read_golden
from .manifest import MANIFEST, Manifest, bundle_digest, read_manifest


def verify_bundle(folder, trust: str | None = None) -> list[str]:
    """What is wrong with a bundle; empty when it is sound.

    Files are checked before anything in them is loaded. Then the original model computes the golden images, and so
    does the engine, in a process of its own, where its runtime needs no GPU; ``deploy`` checks the others.

    Args:
        folder: what ``export_bundle`` wrote.
        trust: the ``bundle_digest`` that the sender gave by another way; None leaves malice unfound.
    """
    try:
        manifest = read_bundle(folder, trust)
        return list(_model_faults(manifest, Path(folder)))
    except WorkbenchError as error:
        return error.why.split("\n") if isinstance(error, BundleDamaged) else [f"{error.what}: {error.why}"]


class BundleDamaged(WorkbenchError):
    """A bundle's files are not what its manifest says; ``why`` has one line for each fault."""


def read_bundle(folder, trust: str | None = None) -> Manifest:
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


def trusted_manifest(folder: Path, trust: str | None) -> Manifest:
    """The manifest, after a check of the digest that the receiver trusts, if there is one.

    Raises:
        BundleDamaged: the digest is another.
        WorkbenchError: the manifest cannot be read, or is of a later version.
    """
    if trust is not None:
        _check_trust(folder, trust)
    return read_manifest(folder)


def _check_trust(folder: Path, trust: str) -> None:
    found = bundle_digest(folder)
    if found != trust.strip().lower().removeprefix("sha256:"):
        raise BundleDamaged(
            f"The bundle {folder} is not the trusted one",
            why=f"its digest is {found}, trusted is {trust}",
            remedy="ask the sender for the bundle, and by another way for its digest",
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
    """Every file, link and device below a folder but the manifest; links to folders are not followed."""
    for base, folders, files in os.walk(folder):
        links = [name for name in folders if Path(base, name).is_symlink()]
        for name in (*files, *links):
            path = Path(base, name)
            if path != folder / MANIFEST:
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
    if backend(engine.backend).isolated:
        return
    with EngineProcess(engine, manifest.classes) as process:
        error = golden_error(lambda x: process.run(0, x, 600.0), images, logits, engine.batches.opt)
    if fault := golden_fault("the engine", error, golden.engine_tolerance):
        yield fault
