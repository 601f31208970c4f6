"""The records of what is chosen in panels, where ``workbench.records`` has none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..errors import one_of, refuse_unless
from ..models.sizes import model_spec
from ..records import Batches, ModelSpec, Recipe


@dataclass(frozen=True)
class Build:
    """Where an engine is to be built, and how it will be called.

    Attributes:
        backend: ``onnxruntime``, ``tensorrt``, ``tensorrt-rtx``, or the name of a host in ``hosts.toml``.
        card: the GPU to build for (``T4``, ``SM86``); None is the one at hand. A host has its own.
        batches: the batch sizes the engine must take.
        streams: calls in flight at once when it is timed.
    """

    backend: str = "onnxruntime"
    card: str | None = None
    batches: Batches = field(default_factory=Batches)
    streams: int = 1

    def __post_init__(self):
        refuse_unless(
            self.streams > 0,
            "An engine is called from at least one stream",
            why=f"streams is {self.streams}",
            remedy="give 1 or more",
        )


@dataclass(frozen=True)
class Places:
    """Where engines are built and run: names of backends of this machine, and of hosts in ``hosts.toml``."""

    names: tuple[str, ...]

    def __post_init__(self):
        refuse_unless(
            bool(self.names),
            "There is no place to build and run engines",
            why="nothing is chosen",
            remedy="choose a backend of this machine or a host",
        )

    def checked(self, known: Iterable[str]) -> Places:
        """The same places, once all of them are known.

        Raises:
            WorkbenchError: a name is neither a backend nor a host of the workspace.
        """
        for name in self.names:
            one_of("place", name, tuple(known))
        return self


@dataclass(frozen=True)
class Grid:
    """The cells of a study: every recipe at every batch size."""

    recipes: tuple[Recipe, ...]
    batches: tuple[int, ...]

    def __post_init__(self):
        object.__setattr__(self, "recipes", tuple(self.recipes))
        object.__setattr__(self, "batches", tuple(self.batches))
        refuse_unless(
            bool(self.recipes and self.batches),
            "The grid has no cells",
            why=f"{len(self.recipes)} recipes and {len(self.batches)} batch sizes are chosen",
            remedy="tick at least one of each",
        )


@dataclass(frozen=True)
class Limits:
    """What an engine may cost: points of accuracy against FP32, milliseconds a call, and joules an image.

    None is no limit.
    """

    max_drop: float = 0.5
    max_latency_ms: float | None = None
    max_joules_per_image: float | None = None

    def __post_init__(self):
        refuse_unless(
            0 <= self.max_drop < math.inf,
            "The limit on accuracy is no number of points",
            why=f"max_drop is {self.max_drop}",
            remedy="give 0 or more percentage points of top-1",
        )
        refuse_unless(
            self.max_latency_ms is None or 0 < self.max_latency_ms < math.inf,
            "No call is within the limit on latency",
            why=f"max_latency_ms is {self.max_latency_ms}",
            remedy="give a positive number of milliseconds, or None for no limit",
        )
        refuse_unless(
            self.max_joules_per_image is None or 0 < self.max_joules_per_image < math.inf,
            "No engine is within the limit on energy",
            why=f"max_joules_per_image is {self.max_joules_per_image}",
            remedy="give a positive number of joules per image, or None for no limit",
        )


@dataclass(frozen=True)
class Aim:
    """What a tuning looks for: the best throughput within a latency, or the least latency at a load.

    Attributes:
        max_latency_ms: what 99 of 100 calls may take; None is no limit.
        load: images that arrive in a second; then the least latency at this load is looked for.
        max_batch: the largest batch to try.
        max_streams: the most calls at a time to try.
        seconds: how long each setting is measured.
    """

    max_latency_ms: float | None = None
    load: float | None = None
    max_batch: int = 64
    max_streams: int = 4
    seconds: float = 1.0

    def __post_init__(self):
        refuse_unless(
            self.max_latency_ms is None or self.load is None,
            "A tuning has one aim",
            why="a limit on latency and a load are both given",
            remedy="give max_latency_ms for the best throughput within it, or load for the least latency at it",
        )
        refuse_unless(
            0 < self.seconds < math.inf,
            "A setting is measured for some time",
            why=f"seconds is {self.seconds}",
            remedy="give more than 0 seconds",
        )


@dataclass(frozen=True)
class Resolution:
    """A published size of ViT, or ``tutorial``, and the edge of its image in pixels."""

    model: str = "B/16"
    image_size: int = 224

    def __post_init__(self):
        model_spec(self.model, self.image_size)  # refuses what is no model, or no size of it

    @property
    def spec(self) -> ModelSpec:
        """The model's shape at this image size."""
        return model_spec(self.model, self.image_size)


@dataclass(frozen=True)
class Source:
    """A model and images to show it.

    Attributes:
        checkpoint: the path of an ``.npz`` file of vit_jax, or of an ``.onnx`` file of any program.
        dataset: ``shapes``, ``cifar10``, a folder with a folder per class, an .npz file, or a folder of pictures.
        images: how many; of pictures without labels at most so many.
        preprocessing: how images become the model's input, as ``read_preprocessing`` takes it: the name of a preset
            such as ``deit``, the path of the model's config, or a mapping; None is vit_jax's.
    """

    checkpoint: str = "data/checkpoints/shapes-vit.npz"
    dataset: str = "shapes"
    images: int = 12
    preprocessing: str | Mapping | None = None

    def __post_init__(self):
        for name in ("checkpoint", "dataset"):
            refuse_unless(
                bool(getattr(self, name).strip()),
                f"No {name} is named",
                why="the line is empty",
                remedy="type a path, or upload a file",
            )
        refuse_unless(
            self.images > 0, "There are no images to load", why=f"images is {self.images}", remedy="give 1 or more"
        )


@dataclass(frozen=True)
class Pair:
    """Two things to compare, by their names."""

    a: str
    b: str
