"""What a training run depends on, and a recipe for each data set."""

from __future__ import annotations

import dataclasses

from ...datasets import cifar10, shapes
from ...errors import one_of, refuse_unless
from ...records import ModelSpec
from ..sizes import CIFAR10, TUTORIAL
from .augmentation import POLICIES
from .start import STARTS

#: The types that products can be computed in.
COMPUTE = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything a training run depends on.

    Attributes:
        spec: the model's shape.
        data: ``shapes``, which are drawn; ``cifar10``; or the path of a data set, as ``wb.images`` takes it.
        images: how many of the training split are used.
        start: the parameters before the first step, one of ``start.STARTS``.
        augmentation: how images change from epoch to epoch, one of ``augmentation.POLICIES``.
        mix: the share of images that are mixed with another one; for ``photographs`` alone.
        average: the decay of the moving average of the parameters, which is the result; 0 takes the last ones.
        warmup: the share of all steps in which the learning rate rises from 0; it then falls as a cosine.
        smoothing: the share of each target that is spread over all classes.
        compute: the type of the products; parameters and optimizer stay in float32.
        steps_per_call: how many steps one compiled call takes; it changes nothing but speed.
    """

    spec: ModelSpec = TUTORIAL
    data: str = "shapes"
    images: int = 200_000
    epochs: int = 60
    batch: int = 1024
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    smoothing: float = 0.1
    start: str = "vit_jax"
    augmentation: str = "squares"
    mix: float = 0.0
    average: float = 0.0
    compute: str = "float32"
    steps_per_call: int = 20

    def __post_init__(self):
        one_of("type to compute in", self.compute, COMPUTE)
        one_of("augmentation", self.augmentation, POLICIES)
        one_of("start", self.start, STARTS)
        for name in ("warmup", "smoothing", "mix", "average"):
            refuse_unless(
                0 <= getattr(self, name) <= 1,
                f"{name} must be a share",
                why=f"it is {getattr(self, name)}",
                remedy="give a number from 0 to 1",
            )
        refuse_unless(
            self.images >= self.batch >= 1 and self.steps >= 1,
            "There is nothing to train on",
            why=f"{self.images} images, batches of {self.batch}, {self.epochs} epochs, "
            f"{self.steps_per_call} steps a call make no whole call",
            remedy="ask for at least one batch of images, and more epochs than one call takes",
        )
        classes = {"shapes": len(shapes.CLASSES), "cifar10": len(cifar10.CLASSES)}.get(self.data, self.spec.classes)
        refuse_unless(
            self.spec.classes == classes,
            f"{self.spec.name} has the wrong number of classes for {self.data}",
            why=f"it has {self.spec.classes}, {self.data} has {classes}",
            remedy=f"give classes={classes}",
        )

    @property
    def steps(self) -> int:
        """Steps in all: whole calls only."""
        return self.epochs * (self.images // self.batch) // self.steps_per_call * self.steps_per_call


#: The recipe for each data set. CIFAR-10's follows Lee et al., 2021 (arXiv:2112.13492, section 4.1: AdamW, warm-up
#: and cosine, label smoothing 0.1, mixup, CutMix and colour), without stochastic depth. 44,800 images, because a
#: hash puts one in ten of the 50,000 into the calibration split, where training must not see them.
RECIPES = {
    "shapes": Plan(),
    "cifar10": Plan(
        CIFAR10,
        data="cifar10",
        images=44_800,
        epochs=400,
        batch=512,
        learning_rate=1.5e-3,
        augmentation="photographs",
        mix=0.5,
        average=0.999,
    ),
}
