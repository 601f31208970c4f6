"""How long a study will take and how much disk it needs, told before it starts."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..records import Measurement, ModelSpec, Recipe
from ..studies.study import Study

#: Bytes of a weight in a file, by precision.
WEIGHT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1, "int8-dynamic": 1}
#: Share of a plain matrix product's speed that a ViT reaches on ONNX Runtime (measured on two cores: 0.5 to 0.7).
EFFICIENCY = 0.6
#: Seconds to make a variant, build an engine and open it, beside the calls: a guess until one was measured.
SETUP_S = 5.0


@dataclass(frozen=True)
class Estimate:
    """What a run will cost; ``basis`` says what the guess rests on."""

    seconds: float
    disk_bytes: float
    basis: str

    def __str__(self) -> str:
        minutes = f"{self.seconds / 60:.0f} min" if self.seconds > 90 else f"{self.seconds:.0f} s"
        return f"About {minutes} and {self.disk_bytes / 2**20:.0f} MiB of disk ({self.basis})"


def estimate(study: Study, cells: Iterable[tuple[str, Recipe, int]], known: Iterable[Measurement]) -> Estimate:
    """Time and disk of cells that are still to be measured.

    An engine answers all images once, and is timed for ``study.seconds`` (and as long warmed up) at each batch.

    Args:
        study: whose images, seconds and graph count.
        cells: (backend, recipe, batch) of each.
        known: measurements of this model on this machine; their fastest tells how fast images are answered.
    """
    cells = list(cells)
    engines = {(backend, recipe) for backend, recipe, _ in cells}
    speed, basis = _images_per_second(study.graph.spec, known)
    answers = len(engines) * len(study.images) / speed
    timing = 2 * study.seconds * len(cells)
    file = study.graph.path.stat().st_size
    disk = sum(2 * file * WEIGHT_BYTES[recipe.precision] / 4 for _, recipe in engines)  # a variant and its engine
    return Estimate(len(engines) * SETUP_S + answers + timing, disk, basis)


def _images_per_second(spec: ModelSpec | None, known: Iterable[Measurement]) -> tuple[float, str]:
    measured = [m.images_per_second for m in known if m.latencies_s]
    if measured:
        return float(np.median(measured)), "from what was measured here"
    if spec is None:
        return 50.0, "a guess: the model's shape is unknown"
    return EFFICIENCY * _flops_per_second() / flops(
        spec
    ), "from the model's operations and a matrix product timed here"


def flops(spec: ModelSpec) -> float:
    """Floating-point operations of one image, the products alone (two per multiply-add).

    Per token a block has 4 width² + 2 width x mlp multiply-adds in its linear layers, and 2 tokens x width in
    attention (Dosovitskiy et al., 2021, arXiv:2010.11929, equations 1 to 4).
    """
    per_token = 4 * spec.width**2 + 2 * spec.width * spec.mlp + 2 * spec.tokens * spec.width
    patches = spec.grid**2 * 3 * spec.patch**2 * spec.width
    return 2.0 * (spec.depth * spec.tokens * per_token + patches + spec.width * spec.classes)


def _flops_per_second(size: int = 768) -> float:
    """Speed of one float32 matrix product on this machine, the best of three."""
    a = np.ones((size, size), np.float32)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - begin)
    return 2 * size**3 / min(times)
