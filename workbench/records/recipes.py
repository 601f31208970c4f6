"""What to do to a graph."""

from __future__ import annotations

import hashlib
import numbers
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import NamedTuple

from ..dtypes import FLOATS
from ..errors import one_of, refuse_unless, shown
from .checks import positive
from .values import check_fields


class Precision(NamedTuple):
    """What a precision means, in types of ``dtypes``.

    Attributes:
        weights: the type in which the file stores the weights of the products in a recipe's scope.
        inputs: the type in which activations reach these products.
        multiplies_in: the type in which these products compute; None where weights are expanded first, so that it
            is that of everything else.
        elsewhere: the type of everything else, unless the recipe names another.
        layouts: where its Q/DQ pairs can go; without any, the recipe's layout means nothing.
        calibrated: whether ranges of activations must be known before the file can be written.
        scales: the type of the scales of its blocks; None where a block has one in the type of everything else.
        block: how many numbers along the summed axis share a scale; 0 where a whole channel or tensor does.
        linear_only: whether attention stays as it is in every scope.
    """

    weights: str
    inputs: str
    multiplies_in: str | None
    elsewhere: str
    layouts: tuple[str, ...] = ()
    calibrated: bool = False
    scales: str | None = None
    block: int = 0
    linear_only: bool = False


LAYOUTS = ("tensorrt", "cpu")
PRECISIONS = {
    "fp32": Precision("fp32", "fp32", "fp32", "fp32"),
    "fp16": Precision("fp16", "fp16", "fp16", "fp16"),
    "bf16": Precision("bf16", "bf16", "bf16", "bf16"),
    "fp8": Precision("fp8", "fp8", "fp8", "fp16", ("tensorrt",), calibrated=True),
    "int8": Precision("int8", "int8", "int8", "fp16", LAYOUTS, calibrated=True),
    "int8-dynamic": Precision("int8", "fp32", "int8", "fp32", ("cpu",), linear_only=True),
    # Blocks: NVFP4 and MXFP8 as tensor cores of 10.0 take them (PTX ISA, "Block Scaling for mma.sync").
    "mxfp8": Precision("fp8", "fp8", "fp8", "fp16", ("tensorrt",), scales="e8m0", block=32, linear_only=True),
    "nvfp4": Precision("fp4", "fp4", "fp4", "fp16", ("tensorrt",), True, scales="fp8", block=16, linear_only=True),
    "w8": Precision("int8", "fp16", None, "fp16", LAYOUTS, linear_only=True),
    "w4": Precision("int4", "fp16", None, "fp16", LAYOUTS, block=32, linear_only=True),
    "wfp4": Precision("fp4", "fp16", None, "fp16", ("tensorrt",), scales="fp8", block=16, linear_only=True),
}
SCOPES = ("linear", "attention", "everything")
METHODS = ("minmax", "percentile", "entropy", "mse")
#: The calibration method that looks at no image: every block's scale follows its activation as it comes.
DYNAMIC = "dynamic"
#: The data set of a calibration whose images were given as an array.
GIVEN = "given images"
#: Changes of calibration images, which show the cost of a set unlike the real images.
CORRUPTIONS = ("plain", "dark", "noisy", "one-class", "random-noise")
#: More images than any calibration reads.
MOST_SAMPLES = 10_000_000
#: The roles a quantizable place can have inside a block, in the order in which a block computes them.
ROLES = ("qkv", "scores", "proj", "fc1", "fc2")


@dataclass(frozen=True)
class Calibration:
    """Which images, how many, and by which method the ranges of activations are found.

    Attributes:
        dataset: the name of an image set, or the path of a folder of images; empty for the data set of the images
            in hand: those that a study or a search evaluates on, or those that a model of ``shapes`` knows.
        variant: one of ``CORRUPTIONS``; ``plain`` leaves the images as they are.
        method: how a range is chosen from what was seen; one of ``METHODS``, or ``dynamic`` for nvfp4 without a
            calibrated scale.
        samples: how many images.
        seed: which images of the set, and with which noise.
        digest: of images that were given as an array, which the workspace keeps; else empty.
    """

    dataset: str = ""
    variant: str = "plain"
    method: str = "entropy"
    samples: int = 128
    seed: int = 0
    digest: str = ""

    def __post_init__(self):
        one_of("calibration variant", self.variant, CORRUPTIONS)
        one_of("calibration method", self.method, (*METHODS, DYNAMIC))
        positive(self, "samples", most=MOST_SAMPLES)
        check_fields(self)
        refuse_unless(
            self.seed >= 0,
            "Calibration.seed must be 0 or more",
            why=f"it is {self.seed}",
            remedy="give a whole number of 0 or more",
        )
        if self.dataset != GIVEN:  # of a record whose data set was replaced
            object.__setattr__(self, "digest", "")
        refuse_unless(
            not self.digest or (self.variant == "plain" and re.fullmatch("[0-9a-f]{32}", self.digest) is not None),
            "Given calibration images are taken as they are, under their digest",
            why=f"the variant is {self.variant!r} and the digest {self.digest!r}",
            remedy='leave the variant "plain", name a data set, or give other images as calibration=',
        )

    @property
    def label(self) -> str:
        """What differs from the defaults, in a few words; empty where nothing does."""
        parts = [self.method] if self.method != "entropy" else []
        if self.variant != "plain":
            parts.append(f"{self.variant} set")
        if self.digest:
            parts.append(f"on {self.samples} given images ({self.digest[:6]})")
            return " ".join(parts)
        if self.dataset not in ("", "shapes"):
            name = PurePath(self.dataset).name
            parts.append(f"on {name}" if name == self.dataset else f"on {name} ({short_digest(self.dataset)})")
        if self.samples != 128:
            parts.append(f"{self.samples} images")
        if self.seed != 0:
            parts.append(f"seed {self.seed}")
        return " ".join(parts)


def short_digest(text: str) -> str:
    """Six digits that tell apart texts which are too long for a label."""
    return hashlib.blake2b(text.encode(), digest_size=3).hexdigest()


def _is_number(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


@dataclass(frozen=True)
class Recipe:
    """What to do to a graph.

    Attributes:
        precision: the type of the products that the scope covers.
        scope: ``linear`` layers, linear layers and ``attention``, or ``everything`` (a lesson, not advice).
        layout: where the Q/DQ nodes go: as ``tensorrt`` or as a ``cpu`` runtime wants them. It means nothing where
            ``PRECISIONS`` lists no choice: see ``resolved_layout``.
        high_precision: the type beside a low precision (int8, fp8, mxfp8, nvfp4, w8, w4, wfp4); None is fp16 for
            the tensorrt layout and fp32 for cpu. It means nothing beside others: see ``resolved_high_precision``.
        calibration: where activation ranges come from.
        smooth: SmoothQuant's alpha (Xiao et al., 2023, arXiv:2211.10438), or None.
        exclude: names of blocks or places that are left in high precision: ``block03`` or ``block03/fc2``. Beside
            a low precision that is the high-precision type, beside fp16, bf16 and int8-dynamic float32.
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
            one_of("high-precision type", self.high_precision, FLOATS)
        refuse_unless(
            isinstance(self.calibration, Calibration),
            "Recipe.calibration must be a Calibration",
            why=f"it is {shown(self.calibration)}",
            remedy='write calibration=Calibration(dataset="shapes"); images go to apply_recipe',
        )
        precision = PRECISIONS[self.precision]
        refuse_unless(
            self.calibration.method != DYNAMIC or not precision.calibrated or bool(precision.block),
            f"{self.precision} has no dynamic scales here",
            why="a tensor has one scale, which must be known before the file is written",
            remedy=f"choose a method out of {', '.join(METHODS)}, or nvfp4, mxfp8 or int8-dynamic",
        )
        refuse_unless(
            isinstance(self.exclude, tuple | list) and all(isinstance(name, str) for name in self.exclude),
            "Recipe.exclude must be a tuple of names",
            why=f"it is {shown(self.exclude)}",
            remedy='write exclude=("block03",), or exclude=() for none',
        )
        object.__setattr__(self, "exclude", tuple(self.exclude))
        refuse_unless(
            self.smooth is None or (_is_number(self.smooth) and 0 <= self.smooth <= 1),
            "SmoothQuant's alpha must lie in 0...1",
            why=f"it is {shown(self.smooth)}",
            remedy="0.5 is the paper's choice; None leaves it out",
        )
        check_fields(self)

    @property
    def resolved_layout(self) -> str | None:
        """The layout that counts: fp8 has only that for tensorrt, int8-dynamic only that for cpu, floats none."""
        layouts = PRECISIONS[self.precision].layouts
        return self.layout if self.layout in layouts else next(iter(layouts), None)

    @property
    def resolved_high_precision(self) -> str:
        """The type of all operators that are not quantized; beside fp16 and bf16 it is that type itself."""
        if not self.is_mixed:
            return PRECISIONS[self.precision].elsewhere
        if self.high_precision is not None:
            return self.high_precision
        return "fp32" if self.resolved_layout == "cpu" else PRECISIONS[self.precision].elsewhere

    @property
    def product_types(self) -> frozenset[str]:
        """The types in which a variant of this recipe computes matrix products, the excluded ones included."""
        high = self.resolved_high_precision
        types = {PRECISIONS[self.precision].multiplies_in or high, high}
        return frozenset(types | {"fp32"} if self.exclude and not self.is_mixed else types)

    @property
    def types(self) -> frozenset[str]:
        """The types that a runtime must know for a variant: of its products, its weights and their scales."""
        precision = PRECISIONS[self.precision]
        return self.product_types | frozenset(filter(None, (precision.weights, precision.scales)))

    @property
    def is_mixed(self) -> bool:
        """Whether a high-precision type stands beside the low one; beside int8-dynamic everything is float32."""
        return "tensorrt" in PRECISIONS[self.precision].layouts

    @property
    def needs_ranges(self) -> bool:
        """Whether activation ranges must be calibrated."""
        return PRECISIONS[self.precision].calibrated and self.calibration.method != DYNAMIC

    @property
    def is_calibrated(self) -> bool:
        """Whether calibration images shape the file: its ranges, or what SmoothQuant moves."""
        return self.needs_ranges or (self.smooth is not None and bool(PRECISIONS[self.precision].layouts))

    @property
    def depends_on_batch(self) -> bool:
        """Whether an image's logits depend on the images beside it, because a call sets the range of its batch."""
        return self.precision == "int8-dynamic"

    @property
    def label(self) -> str:
        """A name for tables and plots: what differs from the defaults, and the layout of Q/DQ.

        Two recipes that make different files have different labels.
        """
        parts = [self.precision]
        if self.is_mixed:
            parts.append(str(self.resolved_layout))
        if self.is_calibrated and self.calibration.label:
            parts.append(self.calibration.label)
        elif PRECISIONS[self.precision].calibrated and self.calibration.method == DYNAMIC:
            parts.append(DYNAMIC)
        if self.scope != "linear":
            parts.append(self.scope)
        if self.high_precision is not None:
            parts.append(f"with {self.high_precision}")
        if self.smooth is not None:
            parts.append(f"smooth {self.smooth:g}")
        if self.exclude:
            names = ", ".join(self.exclude)
            parts.append(
                f"{len(self.exclude)} excluded ({names if len(self.exclude) < 3 else short_digest(names)})"
            )
        return " ".join(parts)
