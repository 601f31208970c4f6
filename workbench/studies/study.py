"""A grid of recipes, backends and batch sizes over one graph, measured into a ledger that survives a kill.

Every finished step is stored as soon as it is done: a variant and an engine's answers to the images as artefacts,
a build, a round of timings and a finished cell as observations. The next run with the same request finds them.
"""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from ..backends import backend
from ..backends.hardware.gpu import gpus
from ..code_version import tool_versions
from ..digests import digest
from ..errors import Cancelled, Refusal, WorkbenchError, one_of, refuse_unless
from ..ledger import new_run_id
from ..measuring import Subject
from ..measuring.subject import model_name
from ..progress import PARTS, Meter, Progress, silent
from ..records import Batches, Graph, Recipe, Variant, whole
from ..remote.dispatch import send, spread
from ..remote.host import Host
from ..workspace import Workspace
from .choice import Choice
from .plan import PLAN, Cell, Plan, machine_facts
from .results import Results, saved_plan
from .runner import Job, Runner

#: Backend -> the distributions whose version decides what it computes.
DISTRIBUTIONS = {"tensorrt-rtx": ("tensorrt-rtx",), "tensorrt": ("tensorrt", "tensorrt-cu12", "tensorrt-cu13")}


class Study:
    """Measurements of every recipe on every backend at every batch size, and what to conclude from them.

    Args:
        graph: what ``export_onnx`` or ``import_onnx`` made.
        workspace: a ``Workspace`` or a folder's path.
        recipes: what to do to the graph; FP32 on ONNX Runtime is the reference even when it is not among them.
        images: float32 (N, H, W, 3) or in the graph's own layout, normalised as its preprocessing says.
        labels: the true class of every image, (N,).
        backends: names of backends, which are used on this machine, and hosts.
        batches: images per call.
        calibration: float32 images that override each recipe's own calibration set.
        cards: backend -> the GPU to build for, where it is not the one at hand; a host has its own.
        options: backend or name of a host -> the backend's own options.
        name: under which ``study_results`` finds the study in its workspace.
        dataset: what the images are called in tables.
        seconds: how long each cell is timed, warm-up not counted.
    """

    def __init__(
        self,
        graph: Graph,
        workspace,
        *,
        recipes: Iterable[Recipe],
        images: np.ndarray,
        labels: np.ndarray,
        backends: Iterable[str | Host] = ("onnxruntime",),
        batches: Iterable[int] = (1, 8),
        calibration: np.ndarray | None = None,
        cards: Mapping[str, str] | None = None,
        options: Mapping[str, Mapping] | None = None,
        name: str = "study",
        dataset: str = "",
        seconds: float = 2.0,
    ):
        self.graph, self.workspace = graph, Workspace.of(workspace)
        self.cards, self.options = dict(cards or {}), dict(options or {})
        self.recipes, self.backends = _listed("recipes", recipes), _listed("backends", backends)
        self.batches = tuple(sorted(whole(batch) or batch for batch in _listed("batches", batches)))
        self.images, self.labels = _checked(graph, images, labels)
        self.images_digest = digest(self.images, self.labels)
        self.calibration = calibration
        self.name, self.dataset, self.seconds = name, dataset, seconds
        self.hosts = tuple(map(self._host, self.backends))
        self._check()

    def _check(self) -> None:
        for axis in ("recipes", "backends", "batches"):
            refuse_unless(
                len(getattr(self, axis)) > 0,
                f"The study has no {axis}",
                why="the grid is empty",
                remedy=f"give at least one of {axis}",
            )
        names = [host.name for host in self.hosts]
        for name in (*self.cards, *self.options):
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
            isinstance(self.seconds, int | float) and self.seconds > 0,
            "A cell cannot be timed for no time",
            why=f"seconds is {self.seconds!r}",
            remedy="give a positive number; 2 is the default",
        )

    def _host(self, place: str | Host) -> Host:
        return place if isinstance(place, Host) else Host(place, place, card=self.cards.get(place))

    @property
    def request(self) -> str:
        """A digest of everything that the study asks for."""
        asked = [self.recipes, self.hosts, self.batches, self.options, self.seconds]
        own = "" if self.calibration is None else digest(self.calibration)
        return digest(self.graph.digest, asked, own, self.images_digest, machine_facts())

    # ---- running -------------------------------------------------------------------------------------------

    def run(self, progress: Progress = silent, client=None, repeat: bool = False) -> Study:
        """Measure what the ledger does not hold yet.

        What cannot be measured becomes a row with its reason and remedy. In this process latencies are taken in
        rounds that alternate between the engines, so that noise of the machine meets all of them alike. On another
        host, and for a GPU, all cells of one engine are one job.

        Args:
            progress: see ``progress.Progress``.
            client: a Dask client whose workers do the jobs, see ``sending.spread``; None does them one at a time.
            repeat: measure every cell anew; earlier measurements stay in the ledger.

        Returns:
            The study itself.

        Raises:
            WorkbenchError: the disk is full, or the cluster has no worker for a host.
            Cancelled: the progress callback asked for it; finished work stays.
        """
        engines = len(self.recipes) * len(self.hosts)
        meter = Meter(progress, len(self.recipes) + 1 + engines * (1 + len(self.batches)))
        jobs, plan = self._planned(meter, elsewhere=client is not None)
        self.workspace.append(PLAN, self.name, plan)
        runner = Runner(self, meter, new_run_id() if repeat else "")
        if client is not None:
            spread(runner, jobs, client)
            jobs = []
        for host in self.hosts:
            mine = [job for job in jobs if job.host == host]
            runner.measure_here(mine) if host.interpreter is None else send(runner, mine)
        progress("done", PARTS, PARTS)
        return self

    def _planned(self, meter: Meter, elsewhere: bool) -> tuple[list[Job], Plan]:
        """Apply every recipe, and ask every backend that is used on this machine what it refuses."""
        jobs, cells = [], []
        for recipe in self.recipes:
            made = self._variant(recipe, meter.step(recipe.label))
            for host in self.hosts:
                row = [self._cell(recipe, host, batch, made, elsewhere) for batch in self.batches]
                cells += row
                if possible := tuple(cell for cell in row if cell.refusal is None):
                    jobs.append(Job(made, host, possible))
        return jobs, Plan(self.name, self.request, tuple(cells))

    def _variant(self, recipe: Recipe, progress: Progress) -> Variant | Refusal:
        from ..graphs.quantization.recipe import apply_recipe

        try:
            return apply_recipe(self.graph, recipe, self.workspace, calibration=self.calibration, progress=progress)
        except Cancelled:
            raise
        except WorkbenchError as error:
            return error.refusal

    def _cell(self, recipe: Recipe, host: Host, batch: int, made: Variant | Refusal, elsewhere: bool) -> Cell:
        here = host.command is None and not elsewhere
        refusal = made if isinstance(made, Refusal) else self._refusal(host, made, batch, here)
        if refusal:
            return self._bare(recipe, host, batch, refusal=refusal)
        return self._bare(recipe, host, batch, key=self.cell_key(made.digest, host, batch, here))

    def _bare(self, recipe: Recipe, host: Host, batch: int, **known) -> Cell:
        return Cell(recipe, host.backend, batch, host.name, host.card, **known)

    def _refusal(self, host: Host, variant: Variant, batch: int, here: bool) -> Refusal | None:
        runtime = backend(host.backend)
        if here and (refusal := runtime.missing() or runtime.refuses(variant, host.card)):
            return refusal
        if self.graph.batch not in (None, batch):
            return Refusal(
                f"the graph was exported with a static batch of {self.graph.batch}",
                "export it with batch='dynamic', or at this batch",
            )
        return None

    def cell_key(self, variant: str, host: Host, batch: int, here: bool = True) -> str:
        """Under which key the ledger keeps the measurements of a variant, named by its digest."""
        return digest(variant, self.host_key(host, here), batch, self.images_digest, self.seconds)

    def host_key(self, host: Host, here: bool = True) -> str:
        """A digest of what beside the variant decides what an engine on this host answers, and how fast.

        Of this machine everything is known that tells it from others; of another one only how it is reached.
        """
        known = [host.name, host.backend, host.command, host.card, self.options.get(host.name, {})]
        if here and host.command is None:
            versions = tool_versions(DISTRIBUTIONS.get(host.backend, (host.backend,)))
            known += [versions, machine_facts(), [gpu.name for gpu in gpus()] if host.interpreter else []]
        return digest(known)

    # ---- reading -------------------------------------------------------------------------------------------

    def results(self) -> Results:
        """What the ledger holds of the grid; cells that were not measured yet are rows too (``to do``)."""
        plan = saved_plan(self.workspace, self.name, self.request)
        return Results(self.workspace, plan or Plan(self.name, self.request, self._unplanned()))

    def _unplanned(self) -> tuple[Cell, ...]:
        return tuple(self._bare(*axes) for axes in itertools.product(self.recipes, self.hosts, self.batches))

    def frame(self) -> pd.DataFrame:
        """See ``Results.frame``."""
        return self.results().frame()

    def pareto(self, batch: int | None = None) -> pd.DataFrame:
        """See ``Results.pareto``."""
        return self.results().pareto(batch)

    def choose(
        self,
        max_drop: float = 0.5,
        max_latency_ms: float | None = None,
        batch: int | None = None,
        latency: str = "p99_ms",
    ) -> Choice:
        """See ``Results.choose``."""
        return self.results().choose(max_drop, max_latency_ms, batch, latency)


#: Axis of the grid -> the type of its values, and what a person calls them.
_AXES = {
    "recipes": (Recipe, "Recipes"),
    "backends": (str | Host, "names of backends, or Hosts"),
    "batches": (numbers.Integral, "whole numbers"),
}


def _listed(axis: str, values) -> tuple:
    """The values of one axis of the grid, each once."""
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


def _checked(graph: Graph, images, labels) -> tuple[np.ndarray, np.ndarray]:
    """Images with the channels last and labels as int64, after a look at whether both fit the graph."""
    preprocessing = graph.preprocessing
    subject = Subject("study", model_name(graph), preprocessing.size, graph.classes, layout=preprocessing.layout)
    images = subject.checked_images(images)
    return images, subject.checked_labels(labels, len(images))
