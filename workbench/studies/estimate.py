"""How long a study will take and how much disk it needs, estimated before it starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..dtypes import HALVES, TYPES
from ..errors import WorkbenchError
from ..performance.cost import cost
from ..performance.roofline import numpy_product, product_flops
from ..records import PRECISIONS, Graph, Measurement, Recipe
from ..remote.host import Host
from .study import Study

#: A ViT's speed on ONNX Runtime over a plain matrix product's: 0.65 to 1.22 in eight trials on two busy cores.
EFFICIENCY = 0.8
#: Edge of the square matrices that are multiplied to measure this machine.
EDGE = 768
#: Seconds to make a variant, build an engine and open it: an order of magnitude.
SETUP_S = 5.0


@dataclass(frozen=True)
class Estimate:
    """What a run will cost; ``basis`` says what the estimate rests on."""

    seconds: float
    disk_bytes: float
    basis: str

    def __str__(self) -> str:
        minutes = f"{self.seconds / 60:.0f} min" if self.seconds > 90 else f"{self.seconds:.0f} s"
        return f"About {minutes} and {self.disk_bytes / 2**20:.0f} MiB of disk ({self.basis})"


def estimate(study: Study, cells: Iterable[tuple[Host, Recipe, int]], known: Iterable[Measurement]) -> Estimate:
    """Time and disk of cells that are still to be measured.

    An engine classifies all images once. At each batch it is warmed up and timed for ``study.seconds`` each.

    Args:
        study: whose images, seconds and graph count.
        cells: host, recipe and batch of each.
        known: measurements of this model on this machine; their median throughput counts.
    """
    cells = list(cells)
    engines = {(host, recipe) for host, recipe, _ in cells}
    speed, basis = _images_per_second(study.graph, known)
    classifying = len(engines) * len(study.images) / speed
    timing = 2 * study.seconds * len(cells)
    file = study.graph.path.stat().st_size
    disk = sum(file * _weight_bits(host, recipe) / TYPES["fp32"].bits for host, recipe in engines)
    return Estimate(len(engines) * SETUP_S + classifying + timing, disk, basis)


def _weight_bits(host: Host, recipe: Recipe) -> int:
    """Bits that a weight takes in the files of a variant and an engine, and in the float32 file of an emulation."""
    emulated = not recipe.product_types.isdisjoint(HALVES) and host.backend == "onnxruntime"
    return 2 * TYPES[PRECISIONS[recipe.precision].weights].bits + (TYPES["fp32"].bits if emulated else 0)


def _images_per_second(graph: Graph, known: Iterable[Measurement]) -> tuple[float, str]:
    measured = [m.images_per_second for m in known if m.latencies_s]
    if measured:
        return float(np.median(measured)), "from what was measured here"
    try:
        macs = cost(graph).total_macs
    except WorkbenchError:  # an operator whose products are not counted
        macs = 0
    if not macs:
        return 50.0, "a guess: the model's products cannot be counted"
    speed = EFFICIENCY * _macs_per_second() / macs
    return speed, "from the model's matrix products and one that was timed here"


def _macs_per_second() -> float:
    """Multiply-accumulates a second of one float32 matrix product on this machine, the best of three."""
    return product_flops({EDGE: numpy_product(EDGE)}) / 2
