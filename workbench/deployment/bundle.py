"""Writes a bundle: everything that a receiver needs to check an engine, to run it, and to fall back from it."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shutil
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import __version__
from ..backends import backend, changed_file
from ..backends.external_data import copy_model
from ..digests import file_digest
from ..errors import WorkbenchError, path_of, refuse_unless
from ..files import disk_errors
from ..measuring.subject import Subject
from ..records import Engine, Measurement, encode
from ..workspace import check_artefact
from .classifier import Classifier, model_input, open_original, original_engine
from .drift import Reference
from .engine_process import EngineFailed, EngineProcess
from .golden import golden_error, write_golden
from .manifest import Golden, Manifest, write_manifest

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
    engine, folder, *, images, measurement: Measurement | None = None, licence: str = UNKNOWN_LICENCE
) -> Path:
    """Write an engine and its original FP32 model as a bundle: the same engine and images give the same bytes.

    Args:
        engine: what ``build_engine`` returned, or the choice of a study, which brings its measurement along.
        folder: a new or empty folder.
        images: normalised float32 (N, H, W, 3), or uint8 pixels of the model's size. The first ``GOLDEN_IMAGES``
            travel with the bundle; all of them make the reference that drift is measured against.
        measurement: the measurement that justified this engine.
        licence: the terms of the weights, for the receiver.

    Returns:
        The folder. ``manifest.bundle_digest`` of it is what a receiver should trust.

    Raises:
        WorkbenchError: the engine's files were changed, the folder holds something, the images do not fit the
            model, or the engine computes NaN for them.
    """
    folder = path_of("A bundle's folder", folder).expanduser().absolute()
    measurement = measurement or getattr(engine, "measurement", None)
    engine = _checked_engine(engine if isinstance(engine, Engine) else getattr(engine, "engine", engine))
    _check_target(folder, measurement)
    images = model_input(images, engine.variant.graph.preprocessing)
    draft = folder.parent / f".{secrets.token_hex(4)}.{folder.name}"
    with disk_errors(f"The bundle {folder} cannot be written"):
        draft.mkdir(parents=True)
        try:
            _write(engine, draft, images, measurement, licence)
            os.replace(draft, folder)  # an empty folder is replaced, one that holds something is not
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


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


def _write(engine: Engine, draft: Path, images: np.ndarray, measurement: Measurement | None, licence: str) -> None:
    packed = _packed(engine, draft)
    logits, tolerance = _original_logits(packed, images)
    golden = images[:GOLDEN_IMAGES], logits[:GOLDEN_IMAGES]
    write_golden(draft, *golden)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", Subject.of(engine).model)[:200]
    manifest = Manifest(
        name=name,
        classes=logits.shape[1],
        engine=packed,
        golden=_tolerances(packed, *golden, tolerance),
        reference=Reference.of(images, logits),
        licence=licence,
        workbench=__version__,
    )
    if measurement is not None:
        (draft / "measurement.json").write_text(json.dumps(encode(measurement), indent=1, sort_keys=True))
    (draft / "README.md").write_text(_readme(manifest), encoding="utf-8")
    files = sorted(path for path in draft.rglob("*") if path.is_file())
    sums = {p.relative_to(draft).as_posix(): {"sha256": file_digest(p), "bytes": p.stat().st_size} for p in files}
    write_manifest(replace(manifest, files=sums), draft)


def _packed(engine: Engine, draft: Path) -> Engine:
    """The engine with its files and the original's copied into the draft, and nothing of this machine's paths."""
    home, original = draft / "engine", draft / "original"
    original.mkdir()
    graph = replace(engine.variant.graph, path=copy_model(engine.variant.graph.path, original))
    for file in backend(engine.backend).files(engine):
        copy = home / file.relative_to(engine.path.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    path = home / engine.path.name
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
        with EngineProcess(engine, logits.shape[1]) as process:
            error = golden_error(lambda x: process.run(0, x, 600.0), images, logits, engine.batches.opt)
    except EngineFailed:
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


def _readme(manifest: Manifest) -> str:
    engine, preprocessing = manifest.engine, manifest.engine.variant.graph.preprocessing
    names = ", ".join(preprocessing.classes) or f"numbered 0 to {manifest.classes - 1}"
    built_by = engine.environment.get("runtime") or f"ONNX Runtime {engine.environment.get('onnxruntime', '')}"
    targets = ", ".join(engine.environment.get("targets") or [])
    size = preprocessing.size
    text = f"""\
        # {manifest.name}: {engine.label}

        A bundle of the ViT workbench {manifest.workbench}: an engine, the FP32 model that it was made from, and
        what is needed to check both.

        - engine: {engine.label}, for {engine.batches.min} to {engine.batches.max} images a call
        - built by: {built_by.strip()}{f", for {targets}" if targets else ""}
        - input: {size} x {size} pixels, mean {preprocessing.mean} and std {preprocessing.std} on the 0...255 scale
        - classes: {names}
        - golden logits: the engine may be off by {manifest.golden.engine_tolerance:g} at most

        Compare the digest with the one that the sender gave you by another way, then check and serve:

            workbench bundle verify FOLDER --trust DIGEST
            workbench serve FOLDER --trust DIGEST

        The checksums in `manifest.json` find damage. Only a digest from a source that you trust finds malice.

        ## Licence

        """
    return textwrap.dedent(text) + textwrap.fill(manifest.licence, 116) + "\n"
