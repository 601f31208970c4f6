"""Pack the engine that was chosen as a bundle, and add it to a registry."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import ipywidgets as widgets

from ..deployment.bundle import UNKNOWN_LICENCE, export_bundle
from ..deployment.registry import Registry
from ..progress import Progress
from . import controls
from .panel import Panel


@dataclass(frozen=True)
class Packing:
    """What is said to the receiver of a bundle: under what terms the weights may be used."""

    licence: str = UNKNOWN_LICENCE


def bundle_panel(engine, registry, *, images, packing: Packing | None = None) -> Panel:
    """Pack an engine; ``panel.result()`` is the bundle's folder in the registry.

    The same engine gives the same bytes, so packing it again finds the bundle that is there. It becomes current
    only when somebody promotes it.

    Args:
        engine: an engine, the choice of a study, or the panel that gives one; the button first makes what it gives.
        registry: a folder, or a ``Registry``; it is made when it is missing.
        images: for golden outputs and as the reference of drift, see ``export_bundle``.
        packing: what the panel starts from.
    """
    kept = registry if isinstance(registry, Registry) else Registry(registry)
    licence = controls.text("licence", "Licence of the weights", (packing or Packing()).licence)

    def read() -> Packing:
        return Packing(licence.value.strip() or UNKNOWN_LICENCE)

    def work(chosen: Packing, progress: Progress) -> Path:
        source = engine.make(progress) if isinstance(engine, Panel) else engine
        progress("pack", 0, 2)
        with tempfile.TemporaryDirectory() as draft:
            bundle = export_bundle(source, Path(draft) / "bundle", images=images, licence=chosen.licence)
            progress("add to the registry", 1, 2)
            return kept.folder_of(kept.add(bundle))

    return Panel(
        "bundle",
        [licence],
        read,
        work,
        after=engine if isinstance(engine, Panel) else None,
        verb="Pack this engine",
        show=_show,
    )


def _show(folder: Path) -> widgets.Widget:
    words = f"Packed as {folder}\nIts digest, which the receiver should get by another way: {folder.name}"
    return widgets.HTML(controls.paragraph(words))
