"""From a graph to an engine: what each step of the pipeline makes."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import refuse_unless
from .checks import positive
from .models import ModelSpec, Preprocessing
from .recipes import Recipe


@dataclass(frozen=True)
class Parity:
    """How closely a graph repeats the model it was exported from."""

    max_abs_error: float
    agreement: float
    images: int
    batches: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """An ONNX file of a ViT, cleaned up, with nodes named by block and role.

    ``spec`` is None for an imported model whose shape could not be read off it. ``batch`` is an int for a
    static batch and None for a symbolic one. ``digest`` covers everything that made the file; ``traced`` counts the
    operators that the exporter wrote, before the clean-up.
    """

    path: Path
    digest: str
    opset: int
    preprocessing: Preprocessing
    spec: ModelSpec | None = None
    batch: int | None = None
    classes: int | None = None
    input_name: str = "images"
    output_name: str = "logits"
    parity: Parity | None = None
    traced: Mapping[str, int] = field(default_factory=dict, hash=False)
    notes: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """One image's shape in the graph's own layout."""
        size = self.preprocessing.size
        return (size, size, 3) if self.preprocessing.layout == "NHWC" else (3, size, size)


@dataclass(frozen=True)
class Variant:
    """The ONNX file that a recipe made of a graph, and which runtimes take it."""

    path: Path
    digest: str
    graph: Graph
    recipe: Recipe
    opset: int
    runtimes: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batches:
    """The batch sizes an engine must take, and the one it is tuned for."""

    min: int = 1
    opt: int = 8
    max: int = 32

    def __post_init__(self):
        positive(self, "min", "opt", "max")
        refuse_unless(
            self.min <= self.opt <= self.max,
            "Batches must be ordered",
            why=f"min {self.min}, opt {self.opt}, max {self.max}",
            remedy="give min <= opt <= max",
        )


@dataclass(frozen=True)
class Engine:
    """What one backend compiled from one variant, for a range of batches, on one kind of device.

    ``checksums`` are the SHA-256 of its files as they were built, by their names in the folder of ``path``.
    """

    backend: str
    path: Path
    variant: Variant
    batches: Batches
    run_id: str
    card: str | None = None
    options: Mapping[str, typing.Any] = field(default_factory=dict)
    build_seconds: float = 0.0
    log_path: Path | None = None
    environment: Mapping[str, typing.Any] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Backend, card and recipe in one line."""
        return " ".join(filter(None, (self.backend, self.card, self.variant.recipe.label)))
