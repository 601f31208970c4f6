"""Writes a bundle: everything that a receiver needs to check an engine, to run it, and to fall back from it."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import __version__
from ..backends import backend, build_engine, changed_file
from ..backends.external_data import copy_model
from ..digests import file_digest
from ..errors import WorkbenchError, path_of, refuse_unless
from ..files import disk_errors
from ..measuring.subject import Subject
from ..progress import Progress, silent
from ..records import Engine, Measurement, Variant, decode, encode
from ..workspace import check_artefact
from .classifier import Classifier, model_input, open_original, original_engine
from .drift import Reference
from .engine_process import EngineFailed, EngineProcess
from .golden import golden_error, read_golden, write_golden
from .manifest import MEASUREMENT, Golden, Manifest, write_manifest
from .readme import readme
from .target import EngineUnbuilt, Target, is_built, refuse_unbuilt
from .verify import read_bundle

#: How many of the given images become golden ones.
GOLDEN_IMAGES = 16
#: Largest error of a logit, as a share of the largest golden logit: of FP32 on another machine, and of engines that
#: could not run where they were packed. A measured error is allowed twice over instead.
ORIGINAL_SHARE = 1e-3
ENGINE_SHARE = {"fp32": 0.005, "fp16": 0.05, "bf16": 0.15}
OTHER_SHARE = 0.3
UNKNOWN_LICENCE = (
    "The terms of the weights are not known to the workbench: they are those of the checkpoint that the model was "
    "loaded from. The files of this bundle that the workbench wrote itself are under Apache-2.0."
)


def export_bundle(
    engine,
    folder,
    *,
    images,
    measurement: Measurement | None = None,
    licence: str = UNKNOWN_LICENCE,
    target: Target | None = None,
) -> Path:
    """Write an engine and its original FP32 model as a bundle: the same engine and images give the same bytes.

    Args:
        engine: what ``build_engine`` returned, or the choice of a study, which brings its measurement along; or a
            variant, for a ``target`` that must build its own engine. Such a bundle serves its original, and says
            by which command the engine is built, until it was.
        folder: a new or empty folder.
        images: normalised float32 (N, H, W, 3), or uint8 pixels of the model's size. The first ``GOLDEN_IMAGES``
            travel with the bundle; all of them make the reference that drift is measured against.
        measurement: the measurement that justified this engine.
        licence: the terms of the weights, for the receiver.
        target: where and how a variant is built; None is TensorRT.

    Returns:
        The folder. ``manifest.bundle_digest`` of it is what a receiver should trust.

    Raises:
        WorkbenchError: the engine's files were changed, the folder holds something, the images do not fit the
            model, or the engine computes NaN for them.
    """
    measurement = measurement or getattr(engine, "measurement", None)
    if isinstance(engine, Variant):
        check_artefact(engine.path)
        engine = (target or Target()).engine(engine)
    engine = _checked_engine(engine if isinstance(engine, Engine) else getattr(engine, "engine", engine))
    return _export(engine, folder, images, measurement, licence)


def _export(engine: Engine, folder, images, measurement, licence: str, kept: Manifest | None = None) -> Path:
    """Write a bundle; name and reference are those of ``kept`` where there is an earlier bundle of the model."""
    folder = path_of("A bundle's folder", folder).expanduser().absolute()
    _check_target(folder, measurement)
    images = model_input(images, engine.variant.graph.preprocessing)
    draft = folder.parent / f".{secrets.token_hex(4)}.{folder.name}"
    with disk_errors(f"The bundle {folder} cannot be written"):
        draft.mkdir(parents=True)
        try:
            _write(engine, draft, images, measurement, licence, kept)
            os.replace(draft, folder)  # an empty folder is replaced, one that holds something is not
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def build_bundle(
    folder, out, *, trust: str | os.PathLike | None = None, card: str | None = None, progress: Progress = silent
) -> Path:
    """Build the engine of a bundle that holds a variant, on this machine, and write a bundle that holds the engine.

    Args:
        folder: what ``export_bundle`` made of a variant.
        out: a new or empty folder. Golden images, measurement and licence are those of the bundle.
        trust: the ``bundle_digest``, or the file of the public key, that the sender gave by another way.
        card: the GPU to build for; None is the one here.
        progress: see ``progress.Progress``.

    Returns:
        The folder of the new bundle, which has another digest.

    Raises:
        WorkbenchError: the bundle is damaged or holds an engine already; the runtime is missing or refuses.
    """
    folder = path_of("A bundle", folder).expanduser().absolute()
    manifest = read_bundle(folder, trust)
    plan, size = manifest.engine, manifest.engine.variant.graph.preprocessing.size
    refuse_unless(
        not is_built(plan),
        f"{folder} has an engine",
        why=f"it holds {plan.label}",
        remedy="serve it; only a bundle of a variant is built",
    )
    images, _ = read_golden(folder, size, manifest.classes)
    with tempfile.TemporaryDirectory() as workspace:
        given: dict = {"batches": plan.batches, "card": card, "options": plan.options, "progress": progress}
        engine = build_engine(plan.variant, plan.backend, workspace, **given)
        measurement = read_measurement(folder, manifest)
        return _export(engine, out, images, measurement, manifest.licence, manifest)


def read_measurement(folder: Path, manifest: Manifest) -> Measurement | None:
    """The measurement that justified a bundle's engine, or None where none was given.

    Raises:
        WorkbenchError: it is no measurement.
    """
    if MEASUREMENT not in manifest.files:
        return None
    try:
        return decode(Measurement, json.loads((folder / MEASUREMENT).read_text()))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"[:400]
        raise WorkbenchError(
            "The bundle's measurement cannot be read", why=why, remedy="ask for it again"
        ) from error


def _checked_engine(engine) -> Engine:
    """The engine, when its files and its original model are what they were."""
    refuse_unless(
        isinstance(engine, Engine),
        "A bundle is made of an engine",
        why=f"given was {type(engine).__name__}",
        remedy="give what build_engine or the choose() of a study returned",
    )
    changed = changed_file(engine)
    refuse_unless(
        changed is None,
        f"{engine.label} is not what was built",
        why=f"{changed} is gone or has other bytes",
        remedy="build the engine again",
    )
    graph = engine.variant.graph
    refuse_unless(
        graph.path.is_file(),
        "The original model is missing",
        why=f"there is no {graph.path}",
        remedy="export or import the model again; a bundle carries it to fall back to",
    )
    check_artefact(graph.path)
    return engine


def _check_target(folder: Path, measurement) -> None:
    refuse_unless(
        measurement is None or isinstance(measurement, Measurement),
        "What justified the engine is a measurement",
        why=f"given was {type(measurement).__name__}",
        remedy="give what measure returned, or leave it out",
    )
    refuse_unless(
        not folder.exists() or (folder.is_dir() and not any(folder.iterdir())),
        f"The bundle {folder} cannot be written",
        why="something is there already",
        remedy="name a new folder; a bundle is never overwritten",
    )


def _write(
    engine: Engine,
    draft: Path,
    images: np.ndarray,
    measurement: Measurement | None,
    licence: str,
    kept: Manifest | None,
) -> None:
    packed = _packed(engine, draft)
    logits, tolerance = _original_logits(packed, images)
    golden = images[:GOLDEN_IMAGES], logits[:GOLDEN_IMAGES]
    write_golden(draft, *golden)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", Subject.of(engine).model)[:200]
    manifest = Manifest(
        name=kept.name if kept else name,
        classes=logits.shape[1],
        engine=packed,
        golden=_tolerances(packed, *golden, tolerance),
        reference=kept.reference if kept else Reference.of(images, logits),
        licence=licence,
        workbench=__version__,
    )
    if measurement is not None:
        (draft / MEASUREMENT).write_text(json.dumps(encode(measurement), indent=1, sort_keys=True))
    (draft / "README.md").write_text(readme(manifest, draft), encoding="utf-8")
    files = sorted(path for path in draft.rglob("*") if path.is_file())
    sums = {p.relative_to(draft).as_posix(): {"sha256": file_digest(p), "bytes": p.stat().st_size} for p in files}
    write_manifest(replace(manifest, files=sums), draft)


def _packed(engine: Engine, draft: Path) -> Engine:
    """The engine with its files and the original's copied into the draft, and nothing of this machine's paths."""
    home, original = draft / "engine", draft / "original"
    original.mkdir()
    graph = replace(engine.variant.graph, path=copy_model(engine.variant.graph.path, original))
    if is_built(engine):
        for file in backend(engine.backend).files(engine):
            copy = home / file.relative_to(engine.path.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        path = home / engine.path.name
    else:
        home.mkdir()
        path = copy_model(engine.path, home)
    options = {name: value for name, value in engine.options.items() if name != "timings"}  # a path of this machine
    variant = replace(engine.variant, path=path, graph=graph, emulation=None)
    return replace(engine, path=path, variant=variant, options=options, log_path=None, checksums={})


def _original_logits(engine: Engine, images: np.ndarray) -> tuple[np.ndarray, float]:
    """The original's logits (N, classes), and how far another machine's FP32 may lie from them."""
    reference = original_engine(engine)
    with open_original(engine) as session:
        run, step = Classifier(session, reference), reference.batches.opt
        logits = np.concatenate([run(images[start : start + step]) for start in range(0, len(images), step)])
    refuse_unless(
        bool(np.isfinite(logits).all()),
        "The original model computes NaN or infinity for these images",
        why="a service could not fall back to it",
        remedy="look for the image, or for a damaged checkpoint",
    )
    return logits, _rounded_up(ORIGINAL_SHARE * max(1.0, float(np.abs(logits).max())))


def _tolerances(engine: Engine, images: np.ndarray, logits: np.ndarray, original: float) -> Golden:
    """The tolerances of both models: twice the engine's own error where it runs here, else by its precision."""
    largest = max(1.0, float(np.abs(logits).max()))
    try:
        refuse_unbuilt(engine, "FOLDER")
        with EngineProcess(engine, logits.shape[1]) as process:
            error = golden_error(lambda x: process.run(0, x, 600.0), images, logits, engine.batches.opt)
    except (EngineFailed, EngineUnbuilt):
        share = ENGINE_SHARE.get(engine.variant.recipe.precision, OTHER_SHARE)
        return Golden(original, _rounded_up(share * largest), executed=False)
    if not math.isfinite(error):
        raise WorkbenchError(
            f"{engine.label} computes NaN or infinity for these images",
            why="a value beyond FP16's 65,504 is the usual cause",
            remedy="exclude the block where it happens from FP16, or use BF16",
        )
    return Golden(original, _rounded_up(max(original, 2 * error)))


def _rounded_up(value: float) -> float:
    """Two digits, so that noise in the last bits of a logit does not change a bundle's bytes."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step) * step:.2g}")
