"""Choose where an engine is built; the button builds it and adds it to the table below."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets
import pandas as pd

from ..backends import REGISTRY, backend, build_engine
from ..errors import Refusal
from ..progress import Progress
from ..records import Batches, Engine, Variant
from ..remote.host import Host, hosts
from ..workspace import Workspace
from . import controls
from .choices import Build
from .panel import Panel

CARDS = ("SM75", "SM80", "SM86", "SM89", "SM120")


def engine_panel(
    variant: Variant | Panel,
    workspace,
    build: Build | None = None,
    *,
    options: dict | None = None,
    work: Callable[[Build, Progress], Any] | None = None,
) -> Panel:
    """Choose a backend or a host, a card, batches and streams; ``panel.result()`` is the engine.

    The hosts are those of the workspace's ``hosts.toml``, see ``remote.host``.

    Args:
        variant: what ``apply_recipe`` returned, or a recipe panel: then the button first makes the variant that is
            chosen there.
        workspace: a ``Workspace`` or a folder's path.
        build: what the panel starts from.
        options: the backend's own options, as ``build_engine`` takes them.
        work: done with the chosen ``Build`` instead of ``build_engine``.
    """
    known = hosts(workspace)

    def make(chosen: Build, progress: Progress) -> Engine:
        source, batches = _variant(variant, progress), chosen.batches
        if host := known.get(chosen.backend):
            return host.run(source, workspace, batches=batches, options=options, progress=progress).engine
        given = {"batches": batches, "card": chosen.card, "options": options}
        return build_engine(source, chosen.backend, workspace, **given, progress=progress)

    seed = build or Build()
    rows = _controls(seed, known)

    def read() -> Build:
        return _read(seed, rows)

    def advise(chosen: Build) -> list[Refusal]:
        rows["card"].disabled = chosen.backend in known
        made = variant if isinstance(variant, Variant) else variant.preview()
        return _refusals(chosen, known.get(chosen.backend), made)

    def show(engine: Engine) -> widgets.Widget:
        return widgets.HTML(controls.table(engine_table(workspace)))

    return Panel(
        "engine",
        list(rows.values()),
        read,
        work or make,
        after=variant if isinstance(variant, Panel) else None,
        verb="Build this engine",
        advise=advise,
        show=show,
    )


def _variant(source: Variant | Panel, progress: Progress) -> Variant:
    return source if isinstance(source, Variant) else source.make(progress)


def _refusals(build: Build, host: Host | None, variant: Variant | None) -> list[Refusal]:
    """What this machine lacks, if it is the one that builds, and why the backend refuses the variant."""
    runtime = backend(host.backend if host else build.backend)
    lacks = runtime.missing() if host is None or host.command is None else None
    refusal = runtime.refuses(variant, host.card if host else build.card) if variant else None
    return [one for one in (lacks, refusal) if one]


def engine_table(workspace) -> pd.DataFrame:
    """One row per engine that was built in a workspace, oldest first."""
    return pd.DataFrame(
        {
            "backend": engine.backend,
            "card": engine.card or "at hand",
            "recipe": engine.variant.recipe.label,
            "batches": str(engine.batches),
            "built in s": round(engine.build_seconds, 1),
            "MiB": round(_size(engine) / 2**20, 1),
            "run": engine.run_id,
        }
        for engine in Workspace.of(workspace).observations("engine", Engine)
    )


def _size(engine: Engine) -> int:
    return engine.path.stat().st_size if engine.path.is_file() else 0


def _controls(build: Build, known: Mapping[str, Host]) -> controls.Controls:
    c, batches = controls, build.batches
    places = [(_named(name), name) for name in REGISTRY]
    places += [(f"{name}: {host.backend} on {host.card or 'its own GPU'}", name) for name, host in known.items()]
    return {
        "backend": c.dropdown("backend", "Build with", places, build.backend),
        "card": c.text("card", "GPU (empty: the one here)", build.card or "", CARDS),
        "min": c.integer("batch-min", "Smallest batch it must take", batches.min, 1, 4096),
        "opt": c.integer("batch-opt", "Batch it is tuned for", batches.opt, 1, 4096),
        "max": c.integer("batch-max", "Largest batch it must take", batches.max, 1, 4096),
        "exact": c.text("batch-exact", "Batches with a profile of their own", ", ".join(map(str, batches.exact))),
        "streams": c.integer("streams", "Calls in flight at once", build.streams, 1, 64),
    }


def _named(name: str) -> str:
    return f"{name} (not available here)" if backend(name).missing() else name


def _listed(text: str) -> tuple:
    """The whole numbers of a typed list, ``1, 8``; a word that is none stays, for ``Batches`` to refuse."""
    return tuple(int(word) if word.isdecimal() else word for word in text.replace(",", " ").split())


def _read(seed: Build, rows: controls.Controls) -> Build:
    chosen = {name: row.value for name, row in rows.items()}
    return dataclasses.replace(
        seed,
        backend=chosen["backend"],
        card=chosen["card"].strip() or None,
        batches=Batches(chosen["min"], chosen["opt"], chosen["max"], _listed(chosen["exact"])),
        streams=chosen["streams"],
    )
