"""The nouns of the workbench, as frozen values that are valid from the moment they exist.

``ModelSpec -> Graph -> Variant -> Engine -> Measurement`` is the pipeline; ``Recipe`` says what turns a graph
into a variant. Only the standard library is imported here: these records travel to GPU hosts that have
nothing else of ours.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import statistics
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .errors import one_of, refuse_unless

CLASSIFIERS = ("token", "gap")
PRECISIONS = ("fp32", "fp16", "bf16", "fp8", "int8", "int8-dynamic")
SCOPES = ("linear", "attention", "everything")
LAYOUTS = ("tensorrt", "cpu")
RESTS = ("fp32", "fp16", "bf16")
METHODS = ("minmax", "percentile", "entropy", "mse")
SHIFTS = ("plain", "dark", "noisy", "one-class", "random-noise")
EXECUTIONS = ("executed", "emulated", "built")
#: The type of output under which a notebook's last cell leaves its scalars for whoever ran the notebook.
SCALARS_MIMETYPE = "application/vnd.workbench.scalars+json"
#: The roles a quantizable site can have inside a block, in the order in which a block computes them.
ROLES = ("qkv", "scores", "proj", "fc1", "fc2")


def whole(value) -> int | None:
    """A whole number of any kind (NumPy's too) as Python's own; None for anything else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _positive(record, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        number = whole(value)
        refuse_unless(
            number is not None and number > 0,
            f"{type(record).__name__}.{name} must be a positive whole number",
            why=f"it is {value!r}",
            remedy=f"give {name} as an integer of 1 or more",
        )
        object.__setattr__(record, name, number)


@dataclass(frozen=True)
class ModelSpec:
    """The shape of a Vision Transformer: what vit_jax calls a config.

    ``representation`` is the width of the tanh layer before the head, or None where there is none.
    """

    name: str
    image_size: int
    patch: int
    width: int
    depth: int
    heads: int
    mlp: int
    classes: int
    classifier: str = "token"
    representation: int | None = None

    def __post_init__(self):
        _positive(self, "image_size", "patch", "width", "depth", "heads", "mlp", "classes")
        one_of("classifier", self.classifier, CLASSIFIERS)
        refuse_unless(
            self.image_size % self.patch == 0,
            f"{self.name} cannot cut its images into patches",
            why=f"{self.image_size} pixels are no multiple of the patch of {self.patch}",
            remedy="choose an image size that the patch divides",
        )
        refuse_unless(
            self.width % self.heads == 0,
            f"{self.name} cannot share its width among its heads",
            why=f"a width of {self.width} is no multiple of {self.heads} heads",
            remedy="choose a number of heads that divides the width",
        )
        if self.representation is not None:
            _positive(self, "representation")

    @property
    def grid(self) -> int:
        """Patches along one edge of the image."""
        return self.image_size // self.patch

    @property
    def tokens(self) -> int:
        """Length of the sequence that the encoder sees, the class token included."""
        return self.grid**2 + (self.classifier == "token")

    @property
    def head_size(self) -> int:
        """Channels per attention head."""
        return self.width // self.heads


@dataclass(frozen=True)
class Preprocessing:
    """How an image file becomes a model's input; it travels with the graph and the bundle.

    The image is resized so that its shorter edge (``keep_aspect``) or both edges have ``resize`` pixels, the
    centre ``size`` x ``size`` is cut out, and ``(pixel - mean) / std`` is computed on 0...255 values.
    The defaults are vit_jax's: a plain resize and (x - 127.5) / 127.5.
    """

    size: int
    resize: int | None = None
    keep_aspect: bool = False
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    layout: str = "NHWC"
    classes: tuple[str, ...] = ()

    def __post_init__(self):
        _positive(self, "size")
        one_of("interpolation", self.interpolation, ("nearest", "bilinear", "bicubic", "lanczos"))
        one_of("layout", self.layout, ("NHWC", "NCHW"))
        refuse_unless(
            self.resize is None or self.resize >= self.size,
            "The crop must fit in the resized image",
            why=f"the image is resized to {self.resize} and cropped to {self.size}",
            remedy="give a resize of at least the crop size, or None",
        )
        refuse_unless(
            len(self.mean) == len(self.std) == 3 and all(s > 0 for s in self.std),
            "Mean and std must be three numbers each, std above zero",
            why=f"they are {self.mean} and {self.std}",
            remedy="give them on the 0...255 scale",
        )


@dataclass(frozen=True)
class Calibration:
    """Which images, how many, and by which method the ranges of activations are found."""

    dataset: str = "shapes"
    variant: str = "plain"
    method: str = "entropy"
    samples: int = 128
    seed: int = 0

    def __post_init__(self):
        one_of("calibration variant", self.variant, SHIFTS)
        one_of("calibration method", self.method, METHODS)
        _positive(self, "samples")


@dataclass(frozen=True)
class Recipe:
    """What to do to a graph.

    Attributes:
        precision: the type of the products that the scope covers.
        scope: ``linear`` layers, linear layers and ``attention``, or ``everything`` (a lesson, not advice).
        layout: where the Q/DQ nodes go: as ``tensorrt`` or as a ``cpu`` runtime wants them.
        rest: the type beside int8 and fp8; None is fp16 for the tensorrt layout and fp32 for cpu.
        calibration: where activation ranges come from.
        smooth: SmoothQuant's alpha (Xiao et al., 2023, arXiv:2211.10438), or None.
        keep: names of blocks or sites that stay high: ``block03`` or ``block03/fc2``. Beside int8 and fp8 that is
            the rest's type, beside fp16, bf16 and int8-dynamic float32.
    """

    precision: str = "fp32"
    scope: str = "linear"
    layout: str = "tensorrt"
    rest: str | None = None
    calibration: Calibration = Calibration()
    smooth: float | None = None
    keep: tuple[str, ...] = ()

    def __post_init__(self):
        one_of("precision", self.precision, PRECISIONS)
        one_of("scope", self.scope, SCOPES)
        one_of("layout", self.layout, LAYOUTS)
        if self.rest is not None:
            one_of("type for the rest", self.rest, RESTS)
        refuse_unless(
            isinstance(self.calibration, Calibration),
            "Recipe.calibration must be a Calibration",
            why=f"it is {self.calibration!r}",
            remedy='write calibration=Calibration(dataset="shapes"); images go to apply_recipe',
        )
        refuse_unless(
            isinstance(self.keep, tuple | list) and all(isinstance(name, str) for name in self.keep),
            "Recipe.keep must be a tuple of names",
            why=f"it is {self.keep!r}",
            remedy='write keep=("block03",), or keep=() for none',
        )
        object.__setattr__(self, "keep", tuple(self.keep))
        refuse_unless(
            self.smooth is None or (isinstance(self.smooth, int | float) and 0 <= self.smooth <= 1),
            "SmoothQuant's alpha must lie in 0...1",
            why=f"it is {self.smooth!r}",
            remedy="0.5 is the paper's choice; None leaves it out",
        )

    @property
    def resolved_rest(self) -> str:
        """The type beside int8 or fp8, with None resolved."""
        return self.rest or ("fp16" if self.layout == "tensorrt" else "fp32")

    @property
    def needs_ranges(self) -> bool:
        """Whether activation ranges must be calibrated."""
        return self.precision in ("int8", "fp8")

    @property
    def label(self) -> str:
        """A short name for tables and plots: only what differs from the defaults, and the layout of Q/DQ."""
        parts = [self.precision]
        if self.needs_ranges:
            parts.append(self.layout)
            if self.calibration.method != "entropy":
                parts.append(self.calibration.method)
            if self.calibration.variant != "plain":
                parts.append(f"{self.calibration.variant} set")
        if self.scope != "linear":
            parts.append(self.scope)
        if self.rest is not None:
            parts.append(f"rest {self.rest}")
        if self.smooth is not None:
            parts.append(f"smooth {self.smooth:g}")
        if self.keep:
            parts.append(f"keep {len(self.keep)}")
        return " ".join(parts)


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
        _positive(self, "min", "opt", "max")
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


@dataclass(frozen=True)
class Measurement:
    """Raw observations of one engine at one batch size; statistics are computed when they are read.

    Attributes:
        latencies_s: seconds of every timed call, in the order taken.
        device_s: seconds of compute alone, where the device can tell them from the copies.
        predictions: the top class of every image; ``labels`` beside them.
        reference_predictions: the reference's top class of every image.
        memory_bytes: peak memory of the session, weights included.
        execution: ``executed`` in the type named, ``emulated`` on another, or only ``built``.
        attention_fused: in how many blocks one kernel computes attention, and in which type, where the build tells:
            ``12 of 12, fp16``.
    """

    backend: str
    model: str
    recipe: Recipe
    batch: int
    variant: str
    latencies_s: tuple[float, ...]
    warmup_calls: int = 0
    device_s: tuple[float, ...] = ()
    predictions: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()
    reference_predictions: tuple[int, ...] = ()
    top5_hits: int = 0
    reference: str = ""
    dataset: str = ""
    card: str | None = None
    streams: int = 1
    memory_bytes: int = 0
    engine_bytes: int = 0
    build_seconds: float = 0.0
    execution: str = "executed"
    attention_fused: str = ""
    environment: Mapping[str, typing.Any] = field(default_factory=dict)
    run_id: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        one_of("execution", self.execution, EXECUTIONS)
        _positive(self, "batch", "streams")

    def percentile_ms(self, percent: float) -> float:
        """A percentile of the call latency in milliseconds (linear interpolation); NaN without timed calls."""
        return 1e3 * quantile(self.latencies_s, percent / 100)

    @property
    def p50_ms(self) -> float:
        """Median latency of a call, ms."""
        return self.percentile_ms(50)

    @property
    def p90_ms(self) -> float:
        """90th percentile of the latency of a call, ms."""
        return self.percentile_ms(90)

    @property
    def p99_ms(self) -> float:
        """99th percentile of the latency of a call, ms."""
        return self.percentile_ms(99)

    @property
    def images_per_second(self) -> float:
        """Throughput in images per second; NaN without timed calls.

        One stream: at the median latency. Several that call back to back: at the mean, because their waits for one
        another are part of the throughput, and each completes calls at one over its mean latency.
        """
        if not self.latencies_s:
            return math.nan
        middle = statistics.fmean if self.streams > 1 else statistics.median
        return self.batch * self.streams / middle(self.latencies_s)

    @property
    def images(self) -> int:
        """Images that the accuracy rests on."""
        return len(self.predictions)

    @property
    def top1_hits(self) -> int:
        """Images whose top class is their label."""
        return sum(p == t for p, t in zip(self.predictions, self.labels))

    @property
    def top1(self) -> float:
        """Share of images classified rightly, 0...1; NaN without labels."""
        return _share(self.top1_hits, len(self.labels))

    @property
    def top5(self) -> float:
        """Share of images with the label among the five highest logits, 0...1; NaN without labels."""
        return _share(self.top5_hits, len(self.labels))

    @property
    def agreement(self) -> float:
        """Share of images on which engine and reference choose the same class, 0...1."""
        same = sum(p == r for p, r in zip(self.predictions, self.reference_predictions))
        return _share(same, len(self.reference_predictions))

    @property
    def reference_top1(self) -> float:
        """The reference's share of images classified rightly, 0...1."""
        hits = sum(r == t for r, t in zip(self.reference_predictions, self.labels))
        return _share(hits, min(len(self.labels), len(self.reference_predictions)))

    @property
    def top1_interval(self) -> tuple[float, float]:
        """95 % Wilson interval of ``top1``."""
        return wilson(self.top1_hits, len(self.labels))

    @property
    def top5_interval(self) -> tuple[float, float]:
        """95 % Wilson interval of ``top5``."""
        return wilson(self.top5_hits, len(self.labels))


def _share(hits: int, total: int) -> float:
    return hits / total if total else math.nan


def wilson(hits: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a share (Wilson, 1927, JASA 22:209-212).

    Returns:
        Lower and upper bound, each 0...1; (0, 1) when nothing was counted.
    """
    if not total:
        return 0.0, 1.0
    z = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
    share, weight = hits / total, z * z / total
    centre = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) * weight + weight * weight / 4) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


def quantile(values, share: float) -> float:
    """The value below which ``share`` of the sample lies (linear interpolation); NaN for no sample."""
    if not values:
        return math.nan
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def encode(value, path=str):
    """A record as plain JSON values; ``path`` says how a ``Path`` is written."""
    if dataclasses.is_dataclass(value):
        return {f.name: encode(getattr(value, f.name), path) for f in dataclasses.fields(value)}
    if isinstance(value, Path):
        return path(value)
    if isinstance(value, Mapping):
        return {str(k): encode(v, path) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [encode(v, path) for v in value]
    return value


def decode(cls, data, path=Path):
    """The record of type ``cls`` that ``encode`` wrote; fields that are unknown today are left out.

    Values are checked again on the way in, because ``__post_init__`` runs.
    """
    if dataclasses.is_dataclass(cls):
        hints = typing.get_type_hints(cls)
        return cls(
            **{f.name: decode(hints[f.name], data[f.name], path) for f in dataclasses.fields(cls) if f.name in data}
        )
    origin, arguments = typing.get_origin(cls), typing.get_args(cls)
    if origin in (typing.Union, types.UnionType):
        return None if data is None else decode(next(a for a in arguments if a is not type(None)), data, path)
    if origin is tuple:
        return tuple(decode(arguments[0], item, path) for item in data)
    return path(data) if cls is Path else data
