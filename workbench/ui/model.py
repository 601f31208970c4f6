"""Choose a model and images, by path or by upload, and see what the model says of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd

from ..datasets import ImageSet
from ..datasets.pictures import NOT_LABELLED
from ..datasets.preprocessing import PRESETS, vit_jax
from ..datasets.published_preprocessing import from_text, read_preprocessing
from ..errors import WorkbenchError
from ..graphs.analysis.original import logits_of_file
from ..graphs.any_model import ONNX, is_onnx, load_graph
from ..graphs.evaluation_images import shown_images
from ..progress import Progress
from ..records import Graph, ModelSpec
from . import controls
from .choices import Source
from .panel import Panel
from .uploads import kept_checkpoint, kept_pictures


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model and images for it, as ``model_panel`` loads them.

    Attributes:
        source: what was chosen.
        spec: the model's shape; None where no ModelSpec describes an ONNX file.
        params: its parameters; None of an ONNX file.
        images: pictures of the model's size.
        graph: the import of an ONNX file; None of a checkpoint, which ``export_onnx`` makes a graph of.
    """

    source: Source
    spec: ModelSpec | None
    params: dict | None
    images: ImageSet
    graph: Graph | None = None

    @property
    def name(self) -> str:
        """The model's."""
        return self.spec.name if self.spec else Path(self.source.checkpoint).stem

    @property
    def classes(self) -> int:
        """Logits of an image."""
        return self.graph.classes or 0 if self.graph else self.spec.classes if self.spec else 0

    @property
    def original(self) -> Any:
        """What a graph of the model is compared with: (spec, params), or the path of the ONNX file."""
        return Path(self.source.checkpoint) if self.graph else (self.spec, self.params)

    @property
    def labelled(self) -> bool:
        """Whether the images have labels that are classes of this model."""
        return self.images.classes != NOT_LABELLED and len(self.images.classes) == self.classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for every logit: the data set's where it has as many classes, else ``class 7``."""
        return self.images.classes if self.labelled else tuple(f"class {index}" for index in range(self.classes))

    def logits(self) -> np.ndarray:
        """What the model computes of the images, (N, classes): by JAX, or ONNX Runtime of an ONNX file."""
        if self.graph:
            return logits_of_file(self.graph, Path(self.source.checkpoint), self.images.x)
        from ..models.vit import logits  # JAX

        return logits(*self.original, self.images.x)

    def facts(self) -> pd.Series:
        """The sizes of the model, by name."""
        if self.spec:
            derived = {"tokens": self.spec.tokens, "head size": self.spec.head_size}
            return pd.Series(vars(self.spec) | derived, name=self.name)
        size = self.images.preprocessing.size
        return pd.Series({"image_size": size, "classes": self.classes}, name=self.name)

    def __str__(self) -> str:
        labels = f"{len(self.images.classes)} classes" if self.labelled else "no labels that this model knows"
        return (
            f"{self.name}: {self._shape()}{self.classes:,} classes. "
            f"{len(self.images):,} images of {self.images.name}, {labels}."
        )

    def _shape(self) -> str:
        if self.spec is None:
            return f"no plain ViT, {self.images.preprocessing.size:,} pixels, "
        spec = self.spec
        return f"{spec.depth} blocks of width {spec.width:,}, {spec.image_size:,} pixels, {spec.tokens:,} tokens, "


def model_panel(workspace, source: Source | None = None) -> Panel:
    """Choose or upload a model and images; ``panel.result()`` is the ``Loaded`` model with its images.

    Args:
        workspace: a ``Workspace`` or a folder's path; uploaded files are kept there.
        source: what the panel starts from.
    """
    seed = source or Source()
    rows = {
        "checkpoint": controls.text("checkpoint", "Model (.npz, .onnx)", seed.checkpoint, _beside(seed.checkpoint)),
        "upload": controls.upload("upload-checkpoint", "Upload a model", ".npz,.onnx"),
        "dataset": controls.text("dataset", "Images", seed.dataset, ("shapes", "cifar10")),
        "pictures": controls.upload("upload-images", "Upload pictures", "image/*", multiple=True),
        "images": controls.integer("images", "How many", seed.images, 1, 100_000),
        "preprocessing": controls.text(
            "preprocessing", "Preprocessing", _written(seed.preprocessing), tuple(PRESETS)
        ),
    }
    refused: list[WorkbenchError] = []

    def keep(button: str, target: str, kept) -> None:
        def store(change) -> None:
            refused.clear()
            try:
                if rows[button].value:
                    rows[target].value = str(kept(rows[button].value, workspace))
            except WorkbenchError as error:
                refused.append(error)

        rows[button].observe(store, names="value")

    keep("upload", "checkpoint", kept_checkpoint)
    keep("pictures", "dataset", kept_pictures)

    def read() -> Source:
        if refused:
            raise refused[0]
        given = from_text(rows["preprocessing"].value)
        return Source(rows["checkpoint"].value, rows["dataset"].value, rows["images"].value, given)

    return Panel(
        "model",
        list(rows.values()),
        read,
        lambda source, progress: load(source, workspace, progress),
        verb="Load",
        show=lambda loaded: widgets.HTML(controls.paragraph(str(loaded))),
    )


def load(source: Source, workspace, progress: Progress) -> Loaded:
    """Load a checkpoint or import an ONNX file, and load images as its preprocessing says.

    Raises:
        WorkbenchError: there is no such model, preprocessing or data set, or it has too few images.
    """
    progress("checkpoint", 0, 2)
    path, graph, params = Path(source.checkpoint), None, None
    if is_onnx(path):
        graph = load_graph(path, workspace, source.preprocessing)
        spec, preprocessing = graph.spec, graph.preprocessing
    else:
        from ..models.checkpoint import load_checkpoint  # JAX

        spec, params = load_checkpoint(source.checkpoint)
        preprocessing = read_preprocessing(source.preprocessing or vit_jax(spec.image_size), spec.image_size)
        preprocessing = replace(preprocessing, layout="NHWC")
    progress("images", 1, 2)
    found = shown_images(source.dataset, source.images, preprocessing)
    progress("images", 2, 2)
    return Loaded(source, spec, params, found, graph)


def _written(preprocessing) -> str:
    return json.dumps(dict(preprocessing)) if isinstance(preprocessing, Mapping) else preprocessing or ""


def _beside(checkpoint: str) -> list[str]:
    """Models in the folder of this one."""
    return sorted(str(path) for path in Path(checkpoint).parent.glob("*") if path.suffix in (".npz", ONNX))
