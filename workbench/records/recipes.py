"""What to do to a graph."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import one_of, refuse_unless
from .checks import positive

PRECISIONS = ("fp32", "fp16", "bf16", "fp8", "int8", "int8-dynamic")
SCOPES = ("linear", "attention", "everything")
LAYOUTS = ("tensorrt", "cpu")
HIGH_PRECISIONS = ("fp32", "fp16", "bf16")
METHODS = ("minmax", "percentile", "entropy", "mse")
SHIFTS = ("plain", "dark", "noisy", "one-class", "random-noise")
#: The roles a quantizable site can have inside a block, in the order in which a block computes them.
ROLES = ("qkv", "scores", "proj", "fc1", "fc2")


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
        positive(self, "samples")


@dataclass(frozen=True)
class Recipe:
    """What to do to a graph.

    Attributes:
        precision: the type of the products that the scope covers.
        scope: ``linear`` layers, linear layers and ``attention``, or ``everything`` (a lesson, not advice).
        layout: where the Q/DQ nodes go: as ``tensorrt`` or as a ``cpu`` runtime wants them.
        high_precision: the type beside int8 and fp8; None is fp16 for the tensorrt layout and fp32 for cpu.
        calibration: where activation ranges come from.
        smooth: SmoothQuant's alpha (Xiao et al., 2023, arXiv:2211.10438), or None.
        exclude: names of blocks or sites that stay high: ``block03`` or ``block03/fc2``. Beside int8 and fp8
            that means the high-precision type, beside fp16, bf16 and int8-dynamic float32.
    """

    precision: str = "fp32"
    scope: str = "linear"
    layout: str = "tensorrt"
    high_precision: str | None = None
    calibration: Calibration = Calibration()
    smooth: float | None = None
    exclude: tuple[str, ...] = ()

    def __post_init__(self):
        one_of("precision", self.precision, PRECISIONS)
        one_of("scope", self.scope, SCOPES)
        one_of("layout", self.layout, LAYOUTS)
        if self.high_precision is not None:
            one_of("high-precision type", self.high_precision, HIGH_PRECISIONS)
        refuse_unless(
            isinstance(self.calibration, Calibration),
            "Recipe.calibration must be a Calibration",
            why=f"it is {self.calibration!r}",
            remedy='write calibration=Calibration(dataset="shapes"); images go to apply_recipe',
        )
        refuse_unless(
            isinstance(self.exclude, tuple | list) and all(isinstance(name, str) for name in self.exclude),
            "Recipe.exclude must be a tuple of names",
            why=f"it is {self.exclude!r}",
            remedy='write exclude=("block03",), or exclude=() for none',
        )
        object.__setattr__(self, "exclude", tuple(self.exclude))
        refuse_unless(
            self.smooth is None or (isinstance(self.smooth, int | float) and 0 <= self.smooth <= 1),
            "SmoothQuant's alpha must lie in 0...1",
            why=f"it is {self.smooth!r}",
            remedy="0.5 is the paper's choice; None leaves it out",
        )

    @property
    def resolved_high_precision(self) -> str:
        """The type beside int8 or fp8, with None resolved."""
        return self.high_precision or ("fp16" if self.layout == "tensorrt" else "fp32")

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
        if self.high_precision is not None:
            parts.append(f"high {self.high_precision}")
        if self.smooth is not None:
            parts.append(f"smooth {self.smooth:g}")
        if self.exclude:
            parts.append(f"exclude {len(self.exclude)}")
        return " ".join(parts)
