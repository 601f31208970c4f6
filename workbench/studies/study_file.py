"""A study from a TOML file; ``data/study.toml`` is an example with every key."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomllib

from ..errors import WorkbenchError, one_of, refuse_unless
from ..progress import Progress, silent
from ..records import Calibration, Graph, Preprocessing, Recipe
from ..workspace import Workspace
from .limits import NAMES
from .study import Study

#: Key of the file -> the types that its value may have.
KEYS = {
    "name": str,
    "workspace": str,
    "checkpoint": str,
    "model": str,
    "image_size": int,
    "report": str,
    "backends": list,
    "batches": list,
    "seconds": (int, float),
    "images": dict,
    "preprocessing": dict,
    "recipes": list,
    "cards": dict,
    "options": dict,
    "limits": dict,
}
IMAGES = {"dataset": str, "split": str, "count": int, "seed": int}
LIMITS = dict.fromkeys(NAMES, (int, float))


@dataclass(frozen=True)
class StudyFile:
    """A TOML file that was read and checked; paths in it are relative to its folder."""

    path: Path
    values: Mapping

    @classmethod
    def read(cls, path) -> StudyFile:
        """Read a file; unknown keys and wrong values are refused before any work is done.

        Raises:
            WorkbenchError: there is no such file, it is no TOML, or a key or value in it is not allowed.
        """
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            remedy = "name a TOML file; data/study.toml is an example"
            raise WorkbenchError(f"{path} cannot be read as a study", why=str(error), remedy=remedy) from error
        _check(values, KEYS, str(path))
        _check(values.get("images", {}), IMAGES, f"[images] of {path}")
        _check(values.get("limits", {}), LIMITS, f"[limits] of {path}")
        refuse_unless(
            ("checkpoint" in values) != ("model" in values) and bool(values.get("recipes")),
            f"{path} does not say what to study",
            why="it needs either checkpoint (a vit_jax .npz) or model (an ONNX file), and at least one [[recipes]]",
            remedy="add what is missing; data/study.toml is an example",
        )
        file = cls(path, values)
        file.recipes()
        return file

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
        found = [_recipe(table, f"[[recipes]] of {self.path}") for table in self.values["recipes"]]
        sets = [replace(recipe.calibration, dataset=self._dataset(recipe.calibration.dataset)) for recipe in found]
        return [replace(recipe, calibration=calibration) for recipe, calibration in zip(found, sets)]

    def study(self, progress: Progress = silent) -> Study:
        """Export or import the model, read the images, and make the study."""
        from ..datasets import images

        values, workspace = self.values, Workspace(self._place("workspace", "workspace"))
        recipes, graph = self.recipes(), self._graph(workspace)
        asked: dict[str, Any] = {"dataset": "shapes", **values.get("images", {})}
        asked["dataset"] = self._dataset(asked["dataset"])
        sample = images(**asked, preprocessing=graph.preprocessing, progress=progress)
        grid = {key: values[key] for key in ("backends", "batches", "cards", "options", "seconds") if key in values}
        return Study(
            graph,
            workspace,
            recipes=recipes,
            images=sample.x,
            labels=sample.labels,
            name=values.get("name", self.path.stem),
            dataset=sample.name,
            **grid,
        )

    def _graph(self, workspace: Workspace) -> Graph:
        if "model" in self.values:
            from ..graphs.import_ import import_onnx

            table = self.values.get("preprocessing")
            where = f"[preprocessing] of {self.path}"
            preprocessing = None if table is None else _record(Preprocessing, table, where)
            return import_onnx(self._place("model", ""), workspace, preprocessing=preprocessing)
        from ..graphs.export import export_onnx
        from ..models.checkpoint import load_checkpoint

        spec, params = load_checkpoint(self._place("checkpoint", ""), image_size=self.values.get("image_size"))
        return export_onnx(spec, params, workspace)

    def _dataset(self, name: str) -> str:
        return name if name in ("shapes", "cifar10") else str(self.path.parent / name)

    def _place(self, key: str, default: str) -> Path:
        return self.path.parent / self.values.get(key, default)


def _recipe(table, where: str) -> Recipe:
    _check(table, {"calibration": dict}, where, others=tuple(f.name for f in dataclasses.fields(Recipe)))
    calibration = _record(Calibration, table.get("calibration", {}), f"calibration in {where}")
    return _record(Recipe, {**table, "calibration": calibration}, where)


def _record(cls, table: Mapping, where: str):
    names = tuple(field.name for field in dataclasses.fields(cls))
    for name in table:
        one_of(f"key in {where}", name, names)
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in table.items()})


def _check(table, types: Mapping, where: str, others: tuple[str, ...] = ()) -> None:
    """Refuse unknown keys and values of another type than the key takes."""
    refuse_unless(
        isinstance(table, dict),
        f"{where} must be a table",
        why=f"it is {table!r}",
        remedy="write it as key = value lines",
    )
    for name, value in table.items():
        one_of(f"key in {where}", name, (*types, *others))
        kind = types.get(name, object)
        refuse_unless(
            isinstance(value, kind) and not (isinstance(value, bool) and kind is not object),
            f"{name} in {where} has the wrong type",
            why=f"it is {value!r}",
            remedy=f"give a value of type {getattr(kind, '__name__', 'number')}",
        )
