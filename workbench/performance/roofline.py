"""The roofline of the machine at hand, measured in seconds, and measurements placed on it.

A program that does ``intensity`` FLOP for each byte it moves cannot run faster than
``min(peak, intensity · bandwidth)`` (Williams, Waterman and Patterson, 2009, CACM 52(4):65-76).

One probe measures both limits: the speed of a matrix product and of a pass over memory. NumPy and JAX hand it their
own two calls. The buffers exist and were written to before a call is timed: otherwise the operating system would
map fresh pages during the call, which takes several times as long as the copy itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..backends.hardware.cpu import cores
from ..dtypes import FLOATS
from ..errors import one_of
from ..progress import Progress, silent
from ..records import Measurement

#: Edges of the square float32 matrices that NumPy multiplies; a laptop needs 0.1 s for the largest.
EDGES = (512, 1024, 1536)
#: Bytes that NumPy copies at once: several times the largest cache of a desktop CPU.
COPIED = (128 << 20, 256 << 20)
#: Every call is timed this often at least.
FEWEST_ROUNDS = 3

Key = TypeVar("Key")
Call = Callable[[], object]


@dataclass(frozen=True)
class Roof:
    """The two limits of a machine for one type of numbers.

    Attributes:
        label: the machine, for a legend.
        precision: the type of the numbers.
        peak_flops: FLOP/s of a matrix product.
        bandwidth: bytes/s read and written.
        measured: whether this machine was measured; otherwise the numbers are published ones.
        source: how they were measured, or where they are published.
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
        """The roof as ``figures.roofline`` draws it."""
        return {
            "label": self.label,
            "precision": self.precision,
            "peak_gflops": self.peak_flops / 1e9,
            "bandwidth_gb_s": self.bandwidth / 1e9,
        }


def fastest(calls: Mapping[Key, Call], seconds: float) -> dict[Key, float]:
    """Seconds of the fastest repetition of each call.

    The fastest counts, because a roof is a limit and other work on the machine only ever slows a call down. Each
    call runs once before it is timed. Then the calls are interleaved, so that a slow moment does not fall on one.

    Args:
        calls: by any key.
        seconds: how long all of them are timed together; each is timed three times at least.
    """
    for call in calls.values():
        call()
    best, rounds, end = dict.fromkeys(calls, float("inf")), 0, time.perf_counter() + seconds
    while rounds < FEWEST_ROUNDS or time.perf_counter() < end:
        for key, call in calls.items():
            begin = time.perf_counter()
            call()
            best[key] = min(best[key], time.perf_counter() - begin)
        rounds += 1
    return best


def product_flops(products: Mapping[int, Call], seconds: float = 0.0) -> float:
    """FLOP/s of the fastest of several matrix products.

    Args:
        products: edge of the square matrices -> a call that multiplies two of them.
        seconds: how long they are timed together.
    """
    return max(2 * edge**3 / best for edge, best in fastest(products, seconds).items())


def copied_bytes(passes: Sequence[tuple[int, Call]], seconds: float = 0.0) -> float:
    """Bytes/s, read and written, of the fastest of several passes over memory.

    Args:
        passes: bytes, and a call that reads so many and writes as many.
        seconds: how long they are timed together.
    """
    best = fastest({index: call for index, (_, call) in enumerate(passes)}, seconds)
    return max(2 * size / best[index] for index, (size, _) in enumerate(passes))


# ---- NumPy -------------------------------------------------------------------------------------------------------


def measure_roof(seconds: float = 1.0, progress: Progress = silent) -> Roof:
    """Time float32 matrix products and copies on this CPU with NumPy, on all its cores.

    The product is the BLAS library's that NumPy was built with. Copies are timed on one core and on all cores: one
    core alone often cannot use all of the memory's bandwidth.

    Args:
        seconds: for each of the two.
        progress: gets the stages ``matrix product`` and ``copy``.
    """
    progress("matrix product", 0, 2)
    peak = product_flops({edge: numpy_product(edge) for edge in EDGES}, seconds)
    progress("copy", 1, 2)
    source, target = (np.ones(max(COPIED) // 4, np.float32) for _ in range(2))
    with ThreadPoolExecutor(cores()) as pool:
        passes = [
            (size, _numpy_copy(source[: size // 4], target[: size // 4], pool, workers))
            for size in COPIED
            for workers in {1, cores()}
        ]
        bandwidth = copied_bytes(passes, seconds)
    progress("copy", 2, 2)
    return Roof(
        label="this CPU",
        precision="fp32",
        peak_flops=peak,
        bandwidth=bandwidth,
        measured=True,
        source=f"NumPy {np.__version__}: {_described(EDGES, COPIED)}",
    )


def numpy_product(edge: int) -> Call:
    """A float32 product of two square matrices in NumPy, into a buffer that exists."""
    left, right = np.random.default_rng(0).standard_normal((2, edge, edge), dtype=np.float32)
    result = np.zeros_like(left)
    return lambda: np.matmul(left, right, out=result)


def _numpy_copy(source: np.ndarray, target: np.ndarray, pool: ThreadPoolExecutor, workers: int) -> Call:
    parts = list(zip(np.array_split(target, workers), np.array_split(source, workers)))
    if workers == 1:
        return lambda: np.copyto(target, source)
    return lambda: list(pool.map(lambda part: np.copyto(*part), parts))  # NumPy releases the interpreter's lock


def _described(edges: Sequence[int], sizes: Sequence[int]) -> str:
    return f"products of matrices up to {max(edges)} × {max(edges)}, passes over up to {max(sizes) >> 20} MiB"


# ---- JAX ---------------------------------------------------------------------------------------------------------


def measure_jax_roof(precision: str = "fp32", seconds: float = 1.0) -> Roof:
    """Time matrix products and passes over memory on JAX's default device.

    On a GPU, JAX multiplies float32 in TF32 on the tensor cores; this is its default, and that of the models.

    Args:
        precision: ``fp32``, ``fp16`` or ``bf16``.
        seconds: for each of the two.

    Raises:
        WorkbenchError: an unknown precision.
    """
    from ..models import probe  # JAX

    one_of("precision of a JAX product", precision, FLOATS)
    edges, sizes = probe.sizes()
    return Roof(
        label=f"{probe.device_name()} {precision}",
        precision=precision,
        peak_flops=product_flops({edge: probe.product(edge, precision) for edge in edges}, seconds),
        bandwidth=copied_bytes([(size, probe.memory_pass(size)) for size in sizes], seconds),
        measured=True,
        source=f"{probe.version()}: {_described(edges, sizes)}",
    )


# ---- measurements ------------------------------------------------------------------------------------------------


def place(measurement: Measurement, flops: float, bytes_moved: float) -> dict:
    """A measurement as a point on a roofline, a row of what ``figures.roofline`` draws.

    Args:
        measurement: with timed calls; its compute counts, and where that was not counted, its end to end.
        flops: FLOP of one call, such as ``cost(spec, measurement.batch, precision).total_flops``.
        bytes_moved: bytes of one call, such as ``total_bytes`` of the same cost. This is what kernels without
            fusion move; an engine that fuses moves less, and its true point lies further to the right.
    """
    counted = measurement.compute_images_per_second
    speed = measurement.images_per_second if math.isnan(counted) else counted
    return {
        "label": f"{measurement.backend} {measurement.recipe.label}",
        "precision": measurement.recipe.precision,
        "intensity": flops / bytes_moved,
        "gflops": speed / measurement.batch * flops / 1e9,
    }
