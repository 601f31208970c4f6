"""The roofline of the machine at hand, measured in seconds, and measurements placed on it.

A program that does ``intensity`` FLOP for each byte it moves cannot run faster than
``min(peak, intensity · bandwidth)`` (Williams, Waterman and Patterson, 2009, CACM 52(4):65-76).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..backends.hardware.cpu import cores
from ..progress import Progress, silent
from ..records import Measurement

#: Edge of the square matrices: 3 · 4 MiB, beyond the caches of one core and within seconds on a laptop.
EDGE = 1024
#: Bytes that are copied at once: several times the largest cache of a desktop CPU.
COPIED = 256 << 20


@dataclass(frozen=True)
class Roof:
    """The two limits of a machine for one type of numbers.

    ``peak_flops`` are FLOP/s of a matrix product, ``bandwidth`` bytes/s read and written; ``measured`` tells a
    measurement on this machine from a published number, and ``source`` says how or where.
    """

    label: str
    precision: str
    peak_flops: float
    bandwidth: float
    measured: bool
    source: str

    @property
    def ridge(self) -> float:
        """FLOP/byte from which on arithmetic, not memory, is the limit."""
        return self.peak_flops / self.bandwidth

    def attainable(self, intensity: float) -> float:
        """FLOP/s that a program of this intensity cannot exceed."""
        return min(self.peak_flops, intensity * self.bandwidth)

    def row(self) -> dict:
        """The roof as ``plots.roofline`` draws it."""
        return {
            "label": self.label,
            "precision": self.precision,
            "peak_gflops": self.peak_flops / 1e9,
            "bandwidth_gb_s": self.bandwidth / 1e9,
        }


def measure_roof(seconds: float = 1.0, progress: Progress = silent) -> Roof:
    """Time a float32 matrix product and a copy on this CPU with NumPy, on all its cores.

    The fastest repetition counts, because a roof is a limit and a busy neighbour only ever slows down. The product
    is the BLAS library's that NumPy was built with. One core alone often cannot draw all of the memory's bandwidth,
    so as many copies run at once as there are cores.

    Args:
        seconds: for each of the two.
        progress: gets the stages ``matrix product`` and ``copy``.
    """
    progress("matrix product", 0, 2)
    numbers = np.random.default_rng(0).standard_normal((2, EDGE, EDGE), dtype=np.float32)
    result = np.empty_like(numbers[0])
    product_s = fastest(lambda: np.matmul(numbers[0], numbers[1], out=result), seconds)
    progress("copy", 1, 2)
    copy_s = _fastest_copy(seconds)
    progress("copy", 2, 2)
    return Roof(
        label="this CPU",
        precision="fp32",
        peak_flops=2 * EDGE**3 / product_s,
        bandwidth=2 * COPIED / copy_s,
        measured=True,
        source=f"NumPy {np.__version__}: a product of {EDGE} × {EDGE} matrices, copies of {COPIED >> 20} MiB",
    )


def _fastest_copy(seconds: float) -> float:
    from concurrent.futures import ThreadPoolExecutor

    workers = cores()
    source, target = np.ones(COPIED // 4, np.float32), np.empty(COPIED // 4, np.float32)
    parts = list(zip(np.array_split(target, workers), np.array_split(source, workers)))
    with ThreadPoolExecutor(workers) as pool:  # np.copyto gives the interpreter's lock up while it copies
        return fastest(lambda: list(pool.map(lambda part: np.copyto(*part), parts)), seconds)


def fastest(call: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest of the calls that fit into a time, three at least."""
    best, end, calls = float("inf"), time.perf_counter() + seconds, 0
    while calls < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        best, calls = min(best, time.perf_counter() - begin), calls + 1
    return best


def place(measurement: Measurement, flops: float, bytes_moved: float) -> dict:
    """A measurement as a point on a roofline, a row of what ``plots.roofline`` draws.

    Args:
        measurement: with timed calls.
        flops: FLOP of one call, such as ``cost(spec, measurement.batch, precision).total_flops``.
        bytes_moved: bytes of one call, such as ``total_bytes`` of the same; what kernels without fusion move. An
            engine that fuses moves less, so its true point lies further right.
    """
    per_second = measurement.images_per_second * flops / (measurement.batch * measurement.streams)
    return {
        "label": f"{measurement.backend} {measurement.recipe.label}",
        "precision": measurement.recipe.precision,
        "intensity": flops / bytes_moved,
        "gflops": measurement.streams * per_second / 1e9,
    }
