"""What a study asks for: a grid over one graph, the images to evaluate on, and how long to time."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ..backends import backend
from ..backends.hardware.cpu import environment
from ..backends.hardware.gpu import gpus
from ..code_version import tool_versions
from ..digests import digest
from ..errors import one_of, refuse_unless, shown
from ..limits import refuse_beyond_memory
from ..measuring import Subject
from ..measuring.subject import model_name
from ..records import Batches, Graph, Recipe, whole
from ..remote.host import Host

#: Backend -> the distributions whose version decides what it computes.
DISTRIBUTIONS = {"tensorrt-rtx": ("tensorrt-rtx",), "tensorrt": ("tensorrt", "tensorrt-cu12", "tensorrt-cu13")}
#: A cell that is timed for longer than a day is a slip of the pen.
LONGEST_S = 24 * 3600.0
#: The part of the environment that identifies a machine; the rest (load, time) changes from run to run.
MACHINE = ("cpu", "cores", "isa", "platform", "python", "numpy")


@dataclass(frozen=True, eq=False)
class Request:
    """What a study asks for, checked. Its cells are ``recipes`` x ``hosts`` x ``batches``.

    Attributes:
        graph: the model.
        recipes: what to do to the graph, each once, with the calibration images named.
        hosts: where to build and measure, each once.
        batches: images per call, ascending.
        images: float32 (N, H, W, 3), normalised.
        labels: int64 (N,).
        options: name of a host -> the backend's own options.
        dataset: the name of the images.
        seconds: how long each cell is timed, warm-up not counted.
    """

    graph: Graph
    recipes: tuple[Recipe, ...]
    hosts: tuple[Host, ...]
    batches: tuple[int, ...]
    images: np.ndarray
    labels: np.ndarray
    options: Mapping[str, Mapping]
    dataset: str
    seconds: float

    def __post_init__(self):
        for axis in ("recipes", "hosts", "batches"):
            name = "backends" if axis == "hosts" else axis
            refuse_unless(
                len(getattr(self, axis)) > 0,
                f"The study has no {name}",
                why="the grid is empty",
                remedy=f"give at least one of {name}",
            )
        names = [host.name for host in self.hosts]
        for name in self.options:
            one_of("backend of the study", name, names)
        refuse_unless(
            len(set(names)) == len(names),
            "Two hosts of the study have the same name",
            why=f"the names are {', '.join(names)}",
            remedy="give each host a name of its own",
        )
        for batch in self.batches:
            Batches(batch, batch, batch)
        refuse_unless(
            isinstance(self.seconds, int | float) and 0 < self.seconds <= LONGEST_S,
            "Cells are timed for some seconds",
            why=f"seconds is {shown(self.seconds)}",
            remedy="give a number above zero; 2 is the default",
        )
        size, largest = self.graph.preprocessing.size, max(self.batches)
        refuse_beyond_memory(
            12 * largest * size**2, f"The study's batches are too large: {largest:,}", "give smaller batches"
        )
        for host in self.hosts:
            backend(host.backend).checked_options(self.options.get(host.name, {}))

    @property
    def engine_batches(self) -> Batches:
        """The batches of every engine: all batch sizes of the study, tuned for the largest."""
        if static := self.graph.batch:
            return Batches(static, static, static)
        exact = self.batches if len(self.batches) > 1 else ()  # no size pays for the others
        return Batches(self.batches[0], self.batches[-1], self.batches[-1], exact)

    @functools.cached_property
    def images_digest(self) -> str:
        """A digest of images and labels."""
        return digest(self.images, self.labels)

    @property
    def digest(self) -> str:
        """A digest of everything that the study asks for, and of the machine."""
        asked = [self.recipes, self.hosts, self.batches, self.options, self.seconds]
        return digest(self.graph.digest, asked, self.images_digest, machine_facts())

    def cell_key(self, variant: str, host: Host, batch: int, here: bool = True) -> str:
        """The key under which the ledger keeps the measurements of a variant, given by its digest."""
        return digest(variant, self.host_key(host, here), batch, self.images_digest, self.seconds)

    def host_key(self, host: Host, here: bool = True) -> str:
        """A digest of all besides the variant that decides what an engine on this host computes, and how fast.

        For this machine it covers hardware and versions; for another one only how it is reached. ``here`` is False
        where a cluster does the jobs.
        """
        known: list = [host.name, host.backend, host.command, host.card, self.options.get(host.name, {})]
        if here and host.command is None:
            versions = tool_versions(DISTRIBUTIONS.get(host.backend, (host.backend,)))
            known += [versions, machine_facts(), [gpu.name for gpu in gpus()] if host.interpreter else []]
        return digest(known)


def machine_facts() -> Mapping:
    """What makes two timings comparable: the processor and the interpreter, not the load of the hour."""
    facts = environment()
    return {name: facts[name] for name in MACHINE}


#: Axis of the grid -> the type of its values, and the words for them.
_AXES = {
    "recipes": (Recipe, "Recipes"),
    "backends": (str | Host, "names of backends, or Hosts"),
    "batches": (numbers.Integral, "whole numbers"),
}


def axis_values(axis: str, values) -> tuple:
    """The values of one axis of the grid, each once: ``recipes``, ``backends`` or ``batches``.

    Raises:
        WorkbenchError: they are no list, or one of them has another type.
    """
    kind, words = _AXES[axis]
    several = isinstance(values, Iterable) and not isinstance(values, str)
    found = tuple(dict.fromkeys(values)) if several else ()
    refuse_unless(
        several and all(isinstance(value, kind) for value in found),
        f"The study's {axis} must be a list of {words}",
        why=f"given was {found if several else values!r}",
        remedy=f"write {axis}=[...], with one entry or more",
    )
    return found


def ascending(batches) -> tuple[int, ...]:
    """Batch sizes as Python's own whole numbers, the smallest first."""
    return tuple(sorted(whole(batch) or batch for batch in axis_values("batches", batches)))


def hosts_of(backends, cards: Mapping[str, str]) -> tuple[Host, ...]:
    """A host for each name of a backend, on this machine; hosts stay as they are.

    Raises:
        WorkbenchError: a card is given for a backend that is not among them.
    """
    values = axis_values("backends", backends)
    hosts = tuple(v if isinstance(v, Host) else Host(v, v, card=cards.get(v)) for v in values)
    for name in cards:
        one_of("backend of the study", name, [host.name for host in hosts])
    return hosts


def evaluation_arrays(graph: Graph, images, labels) -> tuple[np.ndarray, np.ndarray]:
    """Images with the channels last and labels as int64, once both fit the graph."""
    preprocessing = graph.preprocessing
    subject = Subject(
        "study",
        model_name(graph),
        preprocessing.size,
        graph.classes,
        layout=preprocessing.layout,
        input=preprocessing.input,
    )
    images = subject.checked_images(images)
    return images, subject.checked_labels(labels, len(images))


def origin_of(dataset: str) -> str:
    """The data set that an image set's name, such as ``shapes/evaluation``, names; empty for any other name."""
    name = dataset.rpartition("/")[0] or dataset
    return name if name in ("shapes", "cifar10") else ""
