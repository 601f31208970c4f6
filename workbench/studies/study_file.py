"""A study from a TOML file; ``data/study.toml`` is an example with every key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..backends import REGISTRY, backend
from ..datasets.splits import ALL, SPLITS
from ..errors import WorkbenchError, one_of, path_of, refuse_unless
from ..files import read_toml
from ..progress import Progress, silent
from ..records import Batches, Graph, Preprocessing, Recipe, decode_strictly
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
    preprocessing: Preprocessing | None = None
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
        refuse_unless(
            ("checkpoint" in values) != ("model" in values) and bool(keys.recipes),
            f"{path} does not say what to study",
            why="it needs either checkpoint (a vit_jax .npz) or model (an ONNX file), and at least one [[recipes]]",
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
        recipes, graph = self.recipes(), self._graph(workspace)
        asked: dict[str, Any] = {"dataset": "shapes", **values.get("images", {})}
        asked["dataset"] = self._dataset(asked["dataset"])
        if asked.get("split") == ALL:
            asked.setdefault("count", None)  # TOML has no word for it
        sample = images(**asked, preprocessing=graph.preprocessing, progress=progress)
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
        if "model" in self.values:
            from ..graphs.import_ import import_onnx

            return import_onnx(self._place("model", ""), workspace, preprocessing=self.keys.preprocessing)
        from ..graphs.export import export_onnx
        from ..models.checkpoint import load_checkpoint

        spec, params = load_checkpoint(self._place("checkpoint", ""), image_size=self.values.get("image_size"))
        return export_onnx(spec, params, workspace)

    def _dataset(self, name: str) -> str:
        return name if name in ("", "shapes", "cifar10") else str(self.path.parent / name)

    def _place(self, key: str, default: str) -> Path:
        return self.path.parent / self.values.get(key, default)
