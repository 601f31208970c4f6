"""A grid of recipes, backends and batch sizes over one graph, measured into a ledger that survives a kill.

Every finished step is stored as soon as it is done: a variant and an engine's predictions as artefacts, a build, a
round of timings and a finished cell as observations. The next run with the same request finds them.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from ..datasets import ImageSet
from ..datasets.image_set import arrays_of
from ..graphs.evaluation_images import labelled_for
from ..graphs.quantization.calibration_set import with_images
from ..ledger import new_run_id
from ..progress import PARTS, Meter, Progress, silent
from ..records import Graph, Recipe
from ..remote.host import Host
from ..workspace import Workspace
from .choice import Choice
from .expectation import expected_work
from .plan import Plan, planned, unplanned
from .plan_store import keep_plan, saved_plan
from .request import Request, ascending, axis_values, evaluation_arrays, hosts_of, origin_of
from .results import Results
from .runner import Runner


class Study:
    """Measurements of every recipe on every backend at every batch size, and the choice among them.

    Args:
        graph: what ``export_onnx`` or ``import_onnx`` made.
        workspace: a ``Workspace`` or a folder's path.
        recipes: what to do to the graph; FP32 on ONNX Runtime is the reference even when it is not among them.
        images: float32 (N, H, W, 3) or in the graph's own layout, normalised as its preprocessing says; or an image
            set, whose labels and name are taken, and whose data set calibrates the recipes that name none. Labels
            of other classes than the model's are replaced by FP32's own answers, and the name says so.
        labels: the true class of every image, (N,).
        backends: names of backends, which are used on this machine, and hosts.
        batches: images per call.
        calibration: float32 images that override each recipe's own calibration set. The workspace keeps them, and
            the recipes of the frame and of a choice name them by their digest.
        cards: backend -> the GPU to build for, where it is not the one at hand; a host has its own.
        options: backend or name of a host -> the backend's own options.
        name: the name by which ``study_results`` finds the study in its workspace.
        dataset: the name of the images in tables.
        seconds: how long each cell is timed, warm-up not counted.
    """

    def __init__(
        self,
        graph: Graph,
        workspace,
        *,
        recipes: Iterable[Recipe],
        images: np.ndarray | ImageSet,
        labels: np.ndarray | None = None,
        backends: Iterable[str | Host] = ("onnxruntime",),
        batches: Iterable[int] = (1, 8),
        calibration: np.ndarray | None = None,
        cards: Mapping[str, str] | None = None,
        options: Mapping[str, Mapping] | None = None,
        name: str = "study",
        dataset: str = "",
        seconds: float = 2.0,
    ):
        hosts = hosts_of(backends, cards or {})
        if isinstance(images, ImageSet) and labels is None:
            images = labelled_for(graph, images)
        origin = images.source if isinstance(images, ImageSet) else origin_of(dataset)
        dataset = images.name if isinstance(images, ImageSet) and not dataset else dataset
        images, labels = evaluation_arrays(graph, *arrays_of(images, labels))
        self.name, self.workspace = name, Workspace.of(workspace)
        named = [
            with_images(graph, r, self.workspace, calibration, origin) for r in axis_values("recipes", recipes)
        ]
        self.request = Request(
            graph=graph,
            recipes=axis_values("recipes", named),
            hosts=hosts,
            batches=ascending(batches),
            images=images,
            labels=labels,
            options=dict(options or {}),
            dataset=dataset,
            seconds=seconds,
        )

    @property
    def graph(self) -> Graph:
        """The model."""
        return self.request.graph

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """What is done to the graph."""
        return self.request.recipes

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Where engines are built and measured."""
        return self.request.hosts

    @property
    def batches(self) -> tuple[int, ...]:
        """Images per call, ascending."""
        return self.request.batches

    @property
    def images(self) -> np.ndarray:
        """What is classified, float32 (N, H, W, 3)."""
        return self.request.images

    @property
    def labels(self) -> np.ndarray:
        """The true classes, int64 (N,)."""
        return self.request.labels

    @property
    def seconds(self) -> float:
        """How long each cell is timed."""
        return self.request.seconds

    def narrowed(self, recipes: Iterable[Recipe], batches: Iterable[int]) -> Study:
        """The same study of fewer recipes and batch sizes; recipes are those of the study."""
        study = copy.copy(self)
        study.request = dataclasses.replace(
            self.request, recipes=axis_values("recipes", recipes), batches=ascending(batches)
        )
        return study

    # ---- running -------------------------------------------------------------------------------------------

    def run(self, progress: Progress = silent, client=None, repeat: bool = False) -> Study:
        """Measure what the ledger does not hold yet.

        A cell that cannot be measured becomes a row with its reason and remedy. In this process latencies are taken
        in rounds that interleave the engines, so that noise of the machine falls on all of them alike. On another
        host, and for a GPU, all cells of one engine are one job.

        Args:
            progress: see ``progress.Progress``.
            client: a Dask client whose workers do the jobs, see ``remote.dispatch.spread``; None does them one at a
                time.
            repeat: measure every cell anew; earlier measurements stay in the ledger.

        Returns:
            The study itself.

        Raises:
            WorkbenchError: the disk is full, or the cluster has no worker for a host.
            Cancelled: the progress callback asked for it; finished work stays.
        """
        request = self.request
        meter = Meter(progress, expected_work(request))
        groups, cells = planned(request, self.workspace, meter, on_cluster=client is not None)
        keep_plan(self.workspace, Plan(self.name, request.digest, cells))
        runner = Runner(request, self.workspace, meter, new_run_id() if repeat else "")
        if client is not None:
            runner.measure_on_cluster(groups, client)
        else:
            for host in request.hosts:
                own = [group for group in groups if group.host == host]
                if host.interpreter is None:
                    runner.measure_here(host, own)
                else:
                    runner.measure_elsewhere(own)
        progress("done", PARTS, PARTS)
        return self

    # ---- reading -------------------------------------------------------------------------------------------

    def results(self) -> Results:
        """What the ledger holds of the grid; cells that were not measured yet are rows too (``to do``)."""
        request = self.request
        plan = saved_plan(self.workspace, self.name, request.digest)
        return Results(self.workspace, plan or Plan(self.name, request.digest, unplanned(request)))

    def frame(self) -> pd.DataFrame:
        """See ``Results.frame``."""
        return self.results().frame()

    def with_intervals(self) -> pd.DataFrame:
        """See ``Results.with_intervals``."""
        return self.results().with_intervals()

    def pareto(self, batch: int | None = None, against: str = "images_per_second") -> pd.DataFrame:
        """See ``Results.pareto``."""
        return self.results().pareto(batch, against)

    def choose(
        self,
        max_drop: float | None = 0.5,
        max_latency_ms: float | None = None,
        batch: int | None = None,
        latency: str = "p99_ms",
        **limits: float | None,
    ) -> Choice:
        """See ``Results.choose``."""
        return self.results().choose(max_drop, max_latency_ms, batch, latency, **limits)
