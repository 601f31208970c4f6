"""A study from a TOML file; ``data/study.toml`` is an example with every key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..backends import REGISTRY, backend
from ..datasets.preprocessing import PRESETS
from ..datasets.published_preprocessing import read_preprocessing
from ..datasets.splits import ALL, SPLITS
from ..errors import WorkbenchError, one_of, path_of, refuse_unless
from ..files import read_toml
from ..progress import Progress, silent
from ..records import Batches, Graph, Recipe, decode_strictly
from ..records.checks import positive
from ..workspace import Workspace
from .limits import Limits
from .request import LONGEST_S
from .study import Study


@dataclass(frozen=True)
class Images:
    """The table ``[images]``: which images the engines classify."""

    dataset: str = "shapes"
    split: str = "evaluation"
    count: int = 1500
    seed: int = 0

    def __post_init__(self):
        one_of("split", self.split, (*SPLITS, ALL))
        positive(self, "count")
        refuse_unless(self.seed >= 0, "Images.seed must be 0 or more", why=f"it is {self.seed}", remedy="give 0")


@dataclass(frozen=True)
class Search:
    """The table ``[search]``: each recipe below 16 bits is followed by the one that a search made of it.

    Attributes:
        max_drop: percentage points of top-1 that the search may lose, see ``search_recipe``.
        split: of the data set of ``[images]``; another than theirs, so that no recipe is judged by what chose it.
        count: how many images the search judges by.
    """

    max_drop: float = 0.5
    split: str = "training"
    count: int = 256

    def __post_init__(self):
        one_of("split of the search", self.split, (*SPLITS, ALL))
        positive(self, "count")
        refuse_unless(
            0 <= self.max_drop <= 100,
            "search.max_drop must be percentage points of 0 to 100",
            why=f"it is {self.max_drop}",
            remedy="give the points of top-1 that may be lost, such as 0.5",
        )


@dataclass(frozen=True)
class Keys:
    """Every key that a file can have, and the type of its value."""

    recipes: tuple[Recipe, ...] = ()
    name: str | None = None
    workspace: Path | None = None
    checkpoint: Path | None = None
    model: Path | None = None
    image_size: int | None = None
    report: Path | None = None
    backends: tuple[str, ...] = ()
    batches: tuple[int, ...] = ()
    seconds: float = 2.0
    images: Images = Images()
    preprocessing: Any = None
    search: Search | None = None
    cards: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Mapping] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self):
        if self.image_size is not None:
            positive(self, "image_size")
        for name in self.backends:
            one_of("backend", name, tuple(REGISTRY))
        for batch in self.batches:
            Batches(batch, batch, batch)
        for name, options in self.options.items():
            one_of("backend in options", name, tuple(REGISTRY))
            backend(name).checked_options(options)
        refuse_unless(
            0 < self.seconds <= LONGEST_S,
            "seconds must be a number above zero",
            why=f"it is {self.seconds}",
            remedy="give the seconds for which each cell is timed; 2 is the default",
        )


@dataclass(frozen=True)
class StudyFile:
    """A TOML file that was read and checked; paths in it are relative to its folder."""

    path: Path
    values: Mapping
    keys: Keys

    @classmethod
    def read(cls, path) -> StudyFile:
        """Read a file; unknown keys and wrong values are refused before any work is done.

        Raises:
            WorkbenchError: there is no such file, it is no TOML, or a key or value in it is not allowed.
        """
        path = path_of("A study", path)
        try:
            values = read_toml(path, "name a TOML file; data/study.toml is an example")
        except WorkbenchError as error:
            raise WorkbenchError(f"{path} cannot be read as a study", why=error.why, remedy=error.remedy) from error
        keys = decode_strictly(Keys, values, str(path))
        if keys.preprocessing is not None:
            keys = replace(keys, preprocessing=_beside(path.parent, keys.preprocessing))
            read_preprocessing(keys.preprocessing, 1)  # refuses what is none; the size is the model's
        refuse_unless(
            ("checkpoint" in values) != ("model" in values) and bool(keys.recipes),
            f"{path} does not say what to study",
            why="it needs either checkpoint (a .npz) or model (an .onnx file), and at least one [[recipes]]",
            remedy="add what is missing; data/study.toml is an example",
        )
        return cls(path, values, keys)

    @property
    def limits(self) -> dict:
        """The arguments of ``Study.choose``."""
        return dict(self.values.get("limits", {}))

    @property
    def report(self) -> Path:
        """The file that the report is written to."""
        return self._place("report", "report.html")

    def recipes(self) -> list[Recipe]:
        """The recipes, in the order of the file."""
        found = self.keys.recipes
        sets = [replace(recipe.calibration, dataset=self._dataset(recipe.calibration.dataset)) for recipe in found]
        return [replace(recipe, calibration=calibration) for recipe, calibration in zip(found, sets)]

    def study(self, progress: Progress = silent) -> Study:
        """Export or import the model, read the images, and make the study."""
        from ..datasets import images

        values, workspace = self.values, Workspace(self._place("workspace", "workspace"))
        graph = self._graph(workspace)
        asked: dict[str, Any] = {"dataset": "shapes", **values.get("images", {})}
        asked["dataset"] = self._dataset(asked["dataset"])
        if asked.get("split") == ALL:
            asked.setdefault("count", None)  # TOML has no word for it
        sample = images(**asked, preprocessing=graph.preprocessing, progress=progress)
        recipes = [
            found for recipe in self.recipes() for found in self._searched(recipe, graph, workspace, progress)
        ]
        grid = {key: values[key] for key in ("backends", "batches", "cards", "options", "seconds") if key in values}
        return Study(
            graph,
            workspace,
            recipes=recipes,
            images=sample,
            name=values.get("name", self.path.stem),
            **grid,
        )

    def _graph(self, workspace: Workspace) -> Graph:
        from ..graphs.any_model import load_graph

        key = "model" if "model" in self.values else "checkpoint"
        return load_graph(self._place(key, ""), workspace, self.keys.preprocessing, image_size=self.keys.image_size)

    def _searched(self, recipe: Recipe, graph: Graph, workspace: Workspace, progress: Progress) -> Iterator[Recipe]:
        """A recipe, and where the file asks for a search the one that it made of it."""
        from ..graphs.analysis.search import search_recipe
        from ..graphs.evaluation_images import evaluation_images
        from ..graphs.quantization.alone import LOW

        yield recipe
        asked = self.keys.search
        if asked is not None and recipe.precision in LOW:
            dataset = self._dataset(self.keys.images.dataset)
            judged = evaluation_images(graph, dataset, asked.count, split=asked.split, progress=progress)
            limit = {"max_drop": asked.max_drop}
            yield search_recipe(graph, recipe, workspace, **limit, images=judged, progress=progress).recipe

    def _dataset(self, name: str) -> str:
        return name if name in ("", "shapes", "cifar10") else str(self.path.parent / name)

    def _place(self, key: str, default: str) -> Path:
        return self.path.parent / self.values.get(key, default)


def _beside(folder: Path, preprocessing):
    """A preset's name or a table as it is; anything else is a path, relative to the study's folder."""
    named = not isinstance(preprocessing, str) or preprocessing in PRESETS
    return preprocessing if named else str(folder / preprocessing)
