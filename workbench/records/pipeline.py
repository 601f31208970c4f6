"""What the steps of the pipeline make: graph, variant and engine."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import refuse_unless, shown
from .checks import positive, whole
from .models import ModelSpec, Preprocessing
from .recipes import Recipe
from .values import check_fields


@dataclass(frozen=True)
class Parity:
    """How close the outputs of a graph are to those of the model that it was exported from.

    Attributes:
        max_abs_error: the largest absolute difference of a logit.
        agreement: share of images with the same top class, 0...1.
        images: images compared.
        batches: batch sizes compared.
    """

    max_abs_error: float
    agreement: float
    images: int
    batches: tuple[int, ...]

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class Graph:
    """An ONNX file of a ViT, cleaned up, with nodes named by block and role.

    Attributes:
        digest: of everything that shaped the file.
        spec: the model's shape; None for an imported model whose shape was not recognised.
        batch: the static batch; None for a symbolic one.
        traced: how many operators of each kind the exporter wrote, before the clean-up.
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

    def __post_init__(self):
        check_fields(self)
        for name in ("batch", "classes"):
            if getattr(self, name) is not None:
                positive(self, name)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of one image in the graph's layout: (H, W, 3) or (3, H, W)."""
        size = self.preprocessing.size
        return (size, size, 3) if self.preprocessing.layout == "NHWC" else (3, size, size)


@dataclass(frozen=True)
class Variant:
    """The ONNX file that a recipe made of a graph, and the runtimes that take it.

    Attributes:
        emulation: the same arithmetic as a float32 file that rounds after every operator, for a runtime that takes
            the variant and computes its 16-bit types in float32; None where no runtime needs it.
    """

    path: Path
    digest: str
    graph: Graph
    recipe: Recipe
    opset: int
    runtimes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    emulation: Path | None = None

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class Batches:
    """The batches that an engine takes, and those it is tuned for.

    Attributes:
        min: the smallest.
        opt: the one that the whole range is tuned for.
        max: the largest.
        exact: batches that get an optimization profile of their own, with kernels chosen for that size alone. Each
            costs build time and memory. Runtimes without profiles take no notice.
    """

    min: int = 1
    opt: int = 8
    max: int = 32
    exact: tuple[int, ...] = ()

    def __post_init__(self):
        positive(self, "min", "opt", "max")
        refuse_unless(
            self.min <= self.opt <= self.max,
            "Batches must be ordered",
            why=f"min {self.min}, opt {self.opt}, max {self.max}",
            remedy="give min <= opt <= max",
        )
        several = isinstance(self.exact, list | tuple | range | Set)
        exact = tuple(self.exact) if several else (self.exact,)
        numbers = tuple(map(whole, exact))
        refuse_unless(
            all(n is not None and self.min <= n <= self.max for n in numbers),
            "Batches.exact must be whole numbers within the range",
            why=f"it is {shown(self.exact)}, and the range is {self.min} to {self.max}",
            remedy="give sizes between min and max, such as exact=(1, 8), or widen the range",
        )
        object.__setattr__(self, "exact", tuple(sorted({n for n in numbers if n is not None})))

    def __str__(self) -> str:
        tuned = f"{self.min} to {self.max}, tuned for {self.opt}"
        return f"{tuned}, and for {' and '.join(map(str, self.exact))} alone" if self.exact else tuned


@dataclass(frozen=True)
class Engine:
    """What one backend compiled from one variant, for a range of batches, on one kind of device.

    Attributes:
        run_id: the name of this build.
        card: the GPU, by name or architecture: ``T4``, ``SM86``; None for a CPU.
        options: the backend's own options.
        environment: machine and versions at the time of the build.
        checksums: name of a file in the folder of ``path`` -> the SHA-256 of its bytes after the build.
        host: the host that built it elsewhere; empty for an engine that this machine built.
        trusted: whether it may be loaded here: an engine can hold code, so it must come from this machine or from a
            host that the user trusts by name.
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
    host: str = ""
    trusted: bool = True

    def __post_init__(self):
        check_fields(self)

    @property
    def label(self) -> str:
        """Backend, card and recipe in one line."""
        return " ".join(filter(None, (self.backend, self.card, self.variant.recipe.label)))
