"""Engines that a workspace holds already: built on this machine from the same file, for the same use."""

from __future__ import annotations

from ..backends import backend, build_engine, changed_file
from ..code_version import tool_versions
from ..digests import digest
from ..progress import Progress, silent
from ..records import Batches, Engine, Variant
from ..workspace import Workspace
from .request import DISTRIBUTIONS, machine_facts

#: The kind of these observations in the ledger.
KEPT = "kept engine"


def find_or_build_engine(
    variant: Variant,
    backend_name: str,
    workspace,
    *,
    batches: Batches | None = None,
    card: str | None = None,
    options: dict | None = None,
    progress: Progress = silent,
) -> Engine:
    """The engine that an earlier call built with these arguments on this machine, or a new build.

    It is found again where its files are as they were built, and the machine, its versions and the runtime's are
    those of the build; ``build_seconds`` is then that build's. ``build_engine`` always builds.

    Args:
        variant: as for ``build_engine``, like all others.
        backend_name: ``onnxruntime``, ``tensorrt`` or ``tensorrt-rtx``.
        workspace: a ``Workspace`` or a folder's path.
        batches: the batch sizes the engine must take.
        card: the GPU to build for; one that is not named is the one at hand, and such an engine is always built.
        options: the backend's own options.
        progress: see ``progress.Progress``.

    Raises:
        WorkbenchError: as for ``build_engine``.
    """
    workspace, runtime = Workspace.of(workspace), backend(backend_name)
    versions = tool_versions(DISTRIBUTIONS.get(backend_name, (backend_name,)))
    chosen = runtime.checked_options(options or {})
    key = digest(variant.digest, backend_name, batches, card, chosen, versions, machine_facts())
    at_hand = card is None and runtime.isolated  # another GPU may be in the machine by now
    for engine in () if at_hand else reversed(workspace.observations(KEPT, Engine, key)):
        if changed_file(engine) is None:
            return engine
    given = {"batches": batches, "card": card, "options": options, "progress": progress}
    engine = build_engine(variant, backend_name, workspace, **given)
    workspace.append(KEPT, key, engine)
    return engine
