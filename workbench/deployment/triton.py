"""A bundle as a model repository of NVIDIA's Triton Inference Server.

Sources: https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_repository.md and
model_configuration.md beside it; the schema is model_config.proto in github.com/triton-inference-server/common.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from pathlib import Path

from ..backends.external_data import copy_model
from ..errors import WorkbenchError, path_of, refuse_unless
from ..files import disk_errors, new_file
from ..records import Engine, Measurement, decode
from .manifest import Manifest, bundle_digest
from .verify import read_bundle

CONFIG = "config.pbtxt"
#: Versions that Triton keeps loaded: the newest, and the one before to go back to.
LOADED_VERSIONS = 2
#: Runtime -> Triton's backend, and the file of a model there.
ENGINES = {"onnxruntime": ("onnxruntime", "model.onnx"), "tensorrt": ("tensorrt", "model.plan")}


def export_triton(
    bundle,
    repository,
    *,
    tensorrt: str | None = None,
    delay_s: float = 0.002,
    queue: int = 1024,
    trust: str | None = None,
) -> Path:
    """Add the engine of a bundle to a model repository, as a new version of the model of its name.

    Args:
        bundle: what ``export_bundle`` wrote.
        repository: the folder that Triton is started with; it is made when it is missing.
        tensorrt: the version of TensorRT in the Triton container, such as 10.9.0; a plan runs on no other.
        delay_s: seconds for which a request waits for others.
        queue: requests that may wait; Triton refuses more.
        trust: the digest that the bundle's sender gave by another way.

    Returns:
        The folder of the new version.

    Raises:
        WorkbenchError: the bundle is damaged, Triton has no backend for the engine, the plan belongs to another
            version of TensorRT, or the repository holds a model of this name with other inputs or outputs.
    """
    bundle = path_of("A bundle", bundle).expanduser().absolute()
    manifest = read_bundle(bundle, trust)
    _refuse_engine(manifest.engine, tensorrt)
    home = path_of("A model repository", repository).expanduser().absolute() / manifest.name
    config = model_config(manifest, _measured_streams(bundle, manifest), delay_s, queue)
    with disk_errors(f"The model repository {home.parent} cannot be written"):
        home.mkdir(parents=True, exist_ok=True)
        _check_same_model(home / CONFIG, config)
        version = home / str(1 + max(_versions(home), default=0))
        draft = home / f".draft-{secrets.token_hex(4)}"  # Triton reads folders that are named by numbers only
        draft.mkdir()
        try:
            _copy_engine(manifest.engine, draft)
            (draft / "bundle.txt").write_text(bundle_digest(bundle) + "\n")
            with new_file(home / CONFIG) as path:
                path.write_text(config)
            draft.rename(version)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return version


def model_config(manifest: Manifest, instances: int, delay_s: float, queue: int) -> str:
    """The model's ``config.pbtxt``, in protobuf's text format.

    Args:
        manifest: the bundle's.
        instances: how many calls run at the same time.
        delay_s: seconds for which a request waits for others.
        queue: requests that may wait.
    """
    engine, graph = manifest.engine, manifest.engine.variant.graph
    backend, file = ENGINES[engine.backend]
    is_static = graph.batch is not None
    first = [graph.batch] if is_static else []
    image, logits = [*first, *graph.image_shape], [*first, manifest.classes]
    on_gpu = engine.backend == "tensorrt"
    lines = [
        f"name: {json.dumps(manifest.name)}",
        f'backend: "{backend}"',
        f'default_model_filename: "{file}"',
        *(f'cc_model_filenames {{ key: "{cc}" value: "{file}" }}' for cc in _capabilities(engine)),
        f"max_batch_size: {0 if is_static else engine.batches.max}",
        f"input {{ name: {json.dumps(graph.input_name)} data_type: TYPE_FP32 dims: {image} }}",
        f"output {{ name: {json.dumps(graph.output_name)} data_type: TYPE_FP32 dims: {logits} }}",
        f"instance_group {{ count: {instances} kind: {'KIND_GPU' if on_gpu else 'KIND_CPU'} }}",
        f"version_policy {{ latest {{ num_versions: {LOADED_VERSIONS} }} }}",
        *_warmup(graph.input_name, image, () if is_static else sorted({1, engine.batches.opt, engine.batches.max})),
    ]
    if not is_static:
        lines.append(_dynamic_batching(engine.batches.opt, round(1e6 * delay_s), queue))
    return "\n".join(lines) + "\n"


def _warmup(name: str, image: list[int], batches) -> list[str]:
    """Calls with noise before the model is ready, one of each batch size; a static batch is part of the shape."""
    tensor = f"{{ data_type: TYPE_FP32 dims: {image} random_data: true }}"
    return [
        f'model_warmup {{ name: "batch {size or image[0]}" batch_size: {size}'
        f" inputs {{ key: {json.dumps(name)} value: {tensor} }} }}"
        for size in batches or (0,)
    ]


def _dynamic_batching(preferred: int, delay_us: int, queue: int) -> str:
    return (
        f"dynamic_batching {{ preferred_batch_size: [{preferred}] max_queue_delay_microseconds: {delay_us}"
        f" default_queue_policy {{ max_queue_size: {queue} }} }}"
    )


def _capabilities(engine: Engine) -> list[str]:
    """The compute capabilities that a plan was built for, as Triton writes them: ``9.0`` for SM90."""
    targets = engine.environment.get("targets") or [] if engine.backend == "tensorrt" else []
    numbers = [re.fullmatch(r"SM(\d+)(\d)", str(target)) for target in targets]
    return [f"{number[1]}.{number[2]}" for number in numbers if number]


def _refuse_engine(engine: Engine, tensorrt: str | None) -> None:
    refuse_unless(
        engine.backend in ENGINES,
        f"Triton cannot serve {engine.label}",
        why=f"it has backends for {', '.join(ENGINES)}, and none for {engine.backend}",
        remedy="build the engine with tensorrt on the GPU that will run it, or serve it by workbench serve",
    )
    if engine.backend != "tensorrt":
        return
    built = str(engine.environment.get("runtime", "")).removeprefix("TensorRT ")
    same = tensorrt is not None and built.split(".")[:3] == tensorrt.split(".")[:3]
    refuse_unless(
        same or bool(engine.options.get("version_compatible")),
        f"The plan of {engine.label} is not exported for TensorRT {tensorrt or 'of an unknown version'}",
        why=f"it was built by TensorRT {built}, and a plan runs on no other version",
        remedy=f"use a Triton container with TensorRT {built} and say so with --tensorrt, or build the engine with "
        f"the container's TensorRT",
    )


def _measured_streams(bundle: Path, manifest: Manifest) -> int:
    """The number of streams in the measurement that justified the engine; 1 where none was given."""
    if "measurement.json" not in manifest.files:
        return 1
    try:
        return decode(Measurement, json.loads((bundle / "measurement.json").read_text())).streams
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"[:400]
        raise WorkbenchError(
            "The bundle's measurement cannot be read", why=why, remedy="ask for it again"
        ) from error


def _check_same_model(path: Path, config: str) -> None:
    """Refuse to change the inputs or outputs of a model that is there: Triton has one config for all versions."""
    if not path.is_file():
        return
    kept, new = ([line for line in text.splitlines() if _SHARED.match(line)] for text in (path.read_text(), config))
    refuse_unless(
        kept == new,
        f"The repository holds another model of this name: {path.parent}",
        why=f"its {CONFIG} has {'; '.join(kept)}, and this bundle {'; '.join(new)}",
        remedy="choose another repository, or move the model there away",
    )


_SHARED = re.compile("(backend|input|output|max_batch_size|default_model_filename)\\b")


def _versions(home: Path) -> list[int]:
    return [int(path.name) for path in home.iterdir() if re.fullmatch(r"[1-9]\d*", path.name)]


def _copy_engine(engine: Engine, folder: Path) -> None:
    if engine.backend == "onnxruntime":
        copy_model(engine.path, folder)
    else:
        shutil.copyfile(engine.path, folder / ENGINES[engine.backend][1])
