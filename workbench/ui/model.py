"""Choose a checkpoint and images, by path or by upload, and see what the model says of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import ipywidgets as widgets

from ..datasets import ImageSet, images
from ..datasets.folders import image_files
from ..datasets.pictures import NOT_LABELLED, pictures
from ..errors import WorkbenchError
from ..progress import Progress
from ..records import ModelSpec, Preprocessing
from . import controls
from .choices import Source
from .panel import Panel
from .uploads import kept_checkpoint, kept_pictures


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model and images for it, as ``model_panel`` loads them.

    Attributes:
        source: what was chosen.
        spec: the model's shape.
        params: its parameters.
        images: pictures of the model's size.
    """

    source: Source
    spec: ModelSpec
    params: dict
    images: ImageSet

    @property
    def labelled(self) -> bool:
        """Whether the images have labels that are classes of this model."""
        return self.images.classes != NOT_LABELLED and len(self.images.classes) == self.spec.classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for every logit: the data set's where it has as many classes, else ``class 7``."""
        names = tuple(f"class {index}" for index in range(self.spec.classes))
        return self.images.classes if self.labelled else names

    def __str__(self) -> str:
        labels = f"{len(self.images.classes)} classes" if self.labelled else "no labels that this model knows"
        return (
            f"{self.spec.name}: {self.spec.depth} blocks of width {self.spec.width:,}, {self.spec.image_size:,} "
            f"pixels, {self.spec.tokens:,} tokens, {self.spec.classes:,} classes. "
            f"{len(self.images):,} images of {self.images.name}, {labels}."
        )


def model_panel(workspace, source: Source | None = None) -> Panel:
    """Choose or upload a checkpoint and images; ``panel.result()`` is the ``Loaded`` model with its images.

    Args:
        workspace: a ``Workspace`` or a folder's path; uploaded files are kept there.
        source: what the panel starts from.
    """
    seed = source or Source()
    rows = {
        "checkpoint": controls.text("checkpoint", "Checkpoint (.npz)", seed.checkpoint, _beside(seed.checkpoint)),
        "upload": controls.upload("upload-checkpoint", "Upload a checkpoint", ".npz"),
        "dataset": controls.text("dataset", "Images", seed.dataset, ("shapes", "cifar10")),
        "pictures": controls.upload("upload-images", "Upload pictures", "image/*", multiple=True),
        "images": controls.integer("images", "How many", seed.images, 1, 100_000),
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
        return Source(rows["checkpoint"].value, rows["dataset"].value, rows["images"].value)

    return Panel(
        "model",
        list(rows.values()),
        read,
        load,
        verb="Load",
        show=lambda loaded: widgets.HTML(controls.paragraph(str(loaded))),
    )


def load(source: Source, progress: Progress) -> Loaded:
    """Load a checkpoint, and images in its size.

    Raises:
        WorkbenchError: there is no such checkpoint or data set, or it has too few images.
    """
    from ..models.checkpoint import load_checkpoint  # JAX

    progress("checkpoint", 0, 2)
    spec, params = load_checkpoint(source.checkpoint)
    progress("images", 1, 2)
    folder = Path(source.dataset)
    if folder.is_dir() and image_files(folder):
        found = pictures(folder, Preprocessing(size=spec.image_size), source.images)
    else:
        found = images(source.dataset, split="evaluation", count=source.images, size=spec.image_size)
    progress("images", 2, 2)
    return Loaded(source, spec, params, found)


def _beside(checkpoint: str) -> list[str]:
    """Checkpoints in the folder of this one."""
    return sorted(map(str, Path(checkpoint).parent.glob("*.npz")))
