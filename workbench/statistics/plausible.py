"""The largest speed-up over FP32 that the arithmetic of a recipe allows on the same CPU.

A vector instruction holds as many more numbers as they are narrower, and as many more fit through the memory:
4 times for 8 bits. AMX multiplies 8-bit numbers in tiles, at 2,048 products a cycle and core, where AVX-512 with
VNNI has 256 (Intel 64 and IA-32 Architectures Optimization Reference Manual, chapter 20).
"""

from __future__ import annotations

from ..dtypes import TYPES
from ..records import PRECISIONS, Measurement

#: An extension of the instruction set -> how many times more products of 8 or 16 bits it has than vectors of them.
TILES = {"amx_int8": 8, "amx_bf16": 8}


def largest_speedup(measurement: Measurement) -> float:
    """How many times faster than FP32 on the same CPU an engine can be by the width of its numbers."""
    recipe = measurement.recipe
    narrowest = min(TYPES[name].bits for name in (*recipe.product_types, PRECISIONS[recipe.precision].weights))
    sets = str(measurement.environment.get("isa", "")).split()
    tiles = max((factor for name, factor in TILES.items() if name in sets), default=1) if narrowest < 32 else 1
    return tiles * TYPES["fp32"].bits / narrowest
