"""The largest speed-up over FP32 that the arithmetic of a recipe allows on the same CPU.

A vector instruction holds as many more numbers as they are narrower, and as many more fit through the memory:
4 times for 8 bits. AMX multiplies 8-bit numbers in tiles, at 2,048 products a cycle and core, where AVX-512 with
VNNI has 256 (Intel 64 and IA-32 Architectures Optimization Reference Manual, chapter 20).
"""

from __future__ import annotations

from ..dtypes import TYPES
from ..records import PRECISIONS, Measurement

#: Words of the note on a speed-up that cannot be.
QUESTIONED, REMEASURE = "is beyond the", "a busy machine slowed one of the two, measure both again"
#: What must be equal in the environments of two engines for the width of their numbers to be all that differs.
ALIKE = ("cpu", "isa", "cores", "threads")
#: An extension of the instruction set -> how many times more products of 8 or 16 bits it has than vectors of them.
TILES = {"amx_int8": 8, "amx_bf16": 8}


def largest_speedup(measurement: Measurement) -> float:
    """How many times faster than FP32 on the same CPU an engine can be by the width of its numbers."""
    recipe = measurement.recipe
    narrowest = min(TYPES[name].bits for name in (*recipe.product_types, PRECISIONS[recipe.precision].weights))
    sets = str(measurement.environment.get("isa", "")).split()
    tiles = max((factor for name, factor in TILES.items() if name in sets), default=1) if narrowest < 32 else 1
    return tiles * TYPES["fp32"].bits / narrowest


def forbidden_ratio(a: Measurement, b: Measurement) -> str:
    """What is wrong with the ratio of two median latencies, one of FP32 on the same CPU; empty where nothing is.

    Only FP32 on ONNX Runtime bounds it: another recipe may be slower than its numbers are wide, by any factor.
    """
    for fast, plain in ((a, b), (b, a)):
        if not (_is_plain(plain) and fast.backend == plain.backend and _alike(fast, plain)):
            continue
        ratio, most = plain.p50_ms / fast.p50_ms, largest_speedup(fast)
        if not _is_plain(fast) and ratio > most:
            return question(ratio, most)
    return ""


def question(ratio: float, most: float) -> str:
    """The note on a speed-up over FP32 that is larger than the arithmetic allows."""
    return f"{ratio:.2f} × FP32 {QUESTIONED} {most:g} × of its arithmetic: {REMEASURE}"


def _is_plain(measurement: Measurement) -> bool:
    return measurement.backend == "onnxruntime" and measurement.recipe.precision == "fp32"


def _alike(a: Measurement, b: Measurement) -> bool:
    return all(a.environment.get(name) == b.environment.get(name) for name in ALIKE)
