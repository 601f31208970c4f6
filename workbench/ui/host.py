"""Choose where engines are built and run, with the answer of that place's doctor beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import ipywidgets as widgets
import pandas as pd

from ..backends import REGISTRY
from ..progress import Progress
from ..remote import doctor
from ..remote.host import Host, hosts
from . import controls
from .choices import Places
from .panel import Panel


@dataclass(frozen=True)
class Place:
    """A place where engines are built and run, and what its doctor found there.

    Attributes:
        host: a backend of this machine, or a host of ``hosts.toml``.
        rows: of ``doctor``: about the backend alone for this machine, whole for another one.
    """

    host: Host
    rows: tuple[dict, ...]

    @property
    def here(self) -> bool:
        """Whether it is this machine."""
        return self.host.command is None

    @property
    def ready(self) -> bool:
        """Whether its doctor found the backend that jobs use there."""
        named = f"backend {self.host.backend}"
        return any(row["item"] == named and row["status"] == doctor.OK for row in self.rows)

    def __str__(self) -> str:
        wrong = [
            f"{row['item']}: {row['found']}; {row['remedy']}" for row in self.rows if row["status"] != doctor.OK
        ]
        state = "ready" if self.ready else "cannot run engines yet"
        return "\n".join([f"{self.host.name} ({self.host.backend}) is {state}.", *wrong])


def host_panel(workspace, place: str | Iterable[str] = "onnxruntime", cards: dict[str, str] | None = None) -> Panel:
    """Choose among this machine's backends and the workspace's hosts, and ask the doctor of each that is chosen.

    Args:
        workspace: a ``Workspace`` or a folder's path; its ``hosts.toml`` lists the hosts.
        place: the name of a backend or host, then ``panel.result()`` is its ``Place``; or several names, then it is
            a tuple of places.
        cards: backend of this machine -> the GPU to build for, where it is not the one at hand.

    Raises:
        WorkbenchError: ``hosts.toml`` is broken, or a place is neither a backend nor one of its hosts.
    """
    known = {name: Host(name, name, card=(cards or {}).get(name)) for name in REGISTRY} | hosts(workspace)
    seed = Places((place,) if isinstance(place, str) else tuple(place)).checked(known)
    single = isinstance(place, str)
    options = {_words(host): name for name, host in known.items()}
    if single:
        row = controls.dropdown("place", "Build and run on", options.items(), place)
    else:
        chosen = [words for words, name in options.items() if name in seed.names]
        row = controls.multiple("places", "Build and run on (Ctrl adds)", options, chosen)

    def read() -> Places:
        return Places((row.value,) if single else tuple(options[words] for words in row.value))

    def ask(places: Places, progress: Progress) -> Place | tuple[Place, ...]:
        found = []
        for number, name in enumerate(places.names):
            progress(f"ask {name}", number, len(places.names))
            found.append(Place(known[name], tuple(_rows(known[name]))))
        return found[0] if single else tuple(found)

    def show(found) -> widgets.Widget:
        rows = [{"place": one.host.name, **row} for one in ([found] if single else found) for row in _told(one)]
        return widgets.HTML(controls.table(pd.DataFrame(rows)))

    return Panel("host", [row], read, ask, verb="Ask its doctor", show=show)


def _words(host: Host) -> str:
    if host.command is None:
        return f"{host.name} on this machine"
    return f"{host.name}: {host.backend} on {host.card or 'its own GPU'}"


def _rows(host: Host) -> list[dict]:
    return host.doctor() if host.command is not None else [doctor.backend_row(host.backend)]


def _told(place: Place) -> list[dict]:
    """What matters of an answer: its backend, its GPUs, and whatever is not in order."""
    about = ("backend " + place.host.backend, "GPU")
    return [row for row in place.rows if row["status"] != doctor.OK or row["item"].startswith(about)]
