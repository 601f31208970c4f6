"""Building and opening engines: the checks that every runtime shares, and the ledger's record of a build."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

from ..digests import file_digest
from ..errors import refuse_unless
from ..ledger import new_run_id
from ..progress import Progress, silent
from ..records import Batches, Engine, Variant
from ..workspace import Workspace, check_artefact
from .base import BuildRequest, Session
from .registry import backend


def build_engine(
    variant: Variant,
    backend_name: str,
    workspace,
    *,
    batches: Batches | None = None,
    card: str | None = None,
    options: dict | None = None,
    progress: Progress = silent,
) -> Engine:
    """Compile a variant for a range of batches; every build is a new entry in the workspace's ledger.

    Args:
        variant: what ``apply_recipe`` made.
        backend_name: ``onnxruntime``, ``tensorrt`` or ``tensorrt-rtx``.
        workspace: a ``Workspace`` or a folder's path.
        batches: the batch sizes the engine must take; left out, the graph's static batch or ``Batches(1, 8, 32)``.
        card: the GPU to build for, by name or architecture (``T4``, ``SM86``); None is the one of this machine.
        options: the backend's own options, see its module.
        progress: see ``progress.Progress``.

    Raises:
        WorkbenchError: the runtime is not installed, or refuses the variant, the card or the batches; the variant's
            file is missing or was changed.
    """
    _check_arguments(variant, batches)
    runtime, batches = backend(backend_name), _batches_for(variant, batches)
    for refusal in (runtime.missing(), runtime.refuses(variant, card)):
        if refusal:
            raise refusal.error(f"{backend_name} cannot build {variant.recipe.label}")
    workspace, run_id = Workspace.of(workspace), new_run_id()
    with workspace.new_folder("engines", run_id) as folder:
        request = BuildRequest(variant, batches, folder, run_id, card, {} if options is None else options)
        engine = runtime.compile(request, progress)
        sums = {file.name: file_digest(file) for file in runtime.files(engine)}
        engine = dataclasses.replace(engine, checksums=sums)
        workspace.append("engine", variant.digest, engine, run_id)
    return engine


def _check_arguments(variant, batches) -> None:
    refuse_unless(
        isinstance(variant, Variant),
        "An engine is built from a variant",
        why=f"given was {type(variant).__name__}",
        remedy="make one with apply_recipe(graph, Recipe(), workspace)",
    )
    refuse_unless(
        batches is None or isinstance(batches, Batches),
        "The batches of an engine are a smallest, a usual and a largest one",
        why=f"given was {batches!r}",
        remedy="write batches=Batches(1, 8, 32)",
    )
    check_artefact(variant.path)
    refuse_unless(
        variant.path.is_file(),
        f"The variant's file {variant.path} is missing",
        why="it was moved or deleted after the variant was made",
        remedy="make the variant again with apply_recipe",
    )


def _batches_for(variant: Variant, batches: Batches | None) -> Batches:
    static = variant.graph.batch
    if static is None:
        return batches or Batches()
    only = Batches(static, static, static)
    refuse_unless(
        batches in (None, only),
        f"A graph with a static batch of {static} cannot take {batches}",
        why="its batch was fixed when it was exported",
        remedy=f"leave batches out or give {only}, or export with batch='dynamic'",
    )
    return only


def open_engine(engine: Engine, trust: Collection[str] = ()) -> Session:
    """Open an engine as one session, a context manager: ``session.run({"images": x})["logits"]``.

    Args:
        engine: what ``build_engine`` or a host built.
        trust: names of hosts whose engines may be loaded here; see ``open_streams``.

    Raises:
        WorkbenchError: the engine's runtime is not installed here, or refuses to load it.
    """
    return open_streams(engine, 1, trust)[0]


def open_streams(engine: Engine, streams: int, trust: Collection[str] = ()) -> tuple[Session, ...]:
    """Open an engine as several sessions that share its weights.

    An engine of TensorRT can hold code that runs while it is loaded. One that was built elsewhere is therefore
    loaded only where its host is trusted by name: in ``trust``, or by ``trusted = true`` in ``hosts.toml`` when the
    job ran.

    Raises:
        WorkbenchError: the engine's runtime is not installed here, or refuses to load it; a file of it was changed;
            its host is not trusted; ``streams`` is below 1.
    """
    refuse_unless(
        streams >= 1,
        "An engine cannot be opened without a stream",
        why=f"streams is {streams}",
        remedy="ask for 1 stream or more",
    )
    runtime = backend(engine.backend)
    if refusal := runtime.missing():
        raise refusal.error(f"{engine.label} cannot be opened")
    changed = changed_file(engine)  # its outputs would be wrong, or it would crash the process
    refuse_unless(
        changed is None,
        f"{engine.label} is not what was built",
        why=f"{changed} is gone or has other bytes",
        remedy="build the engine again",
    )
    refuse_unless(
        engine.trusted or runtime.copies_variant or engine.host in trust,
        f"{engine.label} is not loaded here",
        why=f"host {engine.host!r} built it, and an engine can hold code that runs when it is loaded",
        remedy=f"if you trust that machine, give trust=[{engine.host!r}], or write trusted = true below it in "
        "hosts.toml and run the job again; or build the engine here",
    )
    return runtime.open(engine, streams)


def changed_file(engine: Engine) -> Path | None:
    """The first file of an engine that is gone or has other bytes than when it was built, or None."""
    files = {engine.path.with_name(name): expected for name, expected in engine.checksums.items()}
    broken = (file for file, expected in files.items() if not file.is_file() or file_digest(file) != expected)
    return next(broken, None if engine.path.is_file() else engine.path)
