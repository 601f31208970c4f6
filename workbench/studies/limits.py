"""The limits of a choice: on the accuracy lost, latency, throughput, memory, file and energy, in any mix."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from ..errors import Refusal, one_of, refuse_unless

#: What a study may limit, as arguments of ``choose``.
NAMES = (
    "max_drop",
    "max_latency_ms",
    "min_images_per_second",
    "max_memory_mib",
    "max_engine_mib",
    "max_joules_per_image",
)


@dataclass(frozen=True)
class Limit:
    """One limit: a column of the frame that must be at most, or at least, a value.

    Attributes:
        name: of the argument of ``choose``.
        column: of the frame.
        value: in the column's unit.
        words: the limit as text, with {} for its value.
        unit: of the value, in words.
        least: whether the column must be at least the value.
    """

    name: str
    column: str
    value: float
    words: str
    unit: str
    least: bool = False

    def within(self, rows: pd.DataFrame) -> pd.Series:
        """Which rows are within the limit; a value that was not measured is not."""
        return rows[self.column] >= self.value if self.least else rows[self.column] <= self.value

    def excess(self, rows: pd.DataFrame) -> pd.Series:
        """How far each row lies beyond the limit, as a share of it; infinite where it was not measured."""
        beyond = self.value - rows[self.column] if self.least else rows[self.column] - self.value
        smallest = 0.1 if self.name == "max_drop" else 1e-9  # a limit of no drop at all still ranks the rows
        return (beyond.clip(lower=0) / max(abs(self.value), smallest)).fillna(math.inf)

    def admitting(self, row: Mapping) -> str:
        """The limit that a row would just keep, as text."""
        return self.words.format(_rounded(row[self.column], self.least))

    def of(self, row: Mapping) -> str:
        """What a row has of that which is limited: ``12.3 ms``."""
        value = row[self.column]
        return "an energy that was not measured" if math.isnan(value) else f"{value:.3g} {self.unit}"

    def __str__(self) -> str:
        return self.words.format(f"{self.value:g}")


def _rounded(value: float, down: bool) -> str:
    """Three digits of a value, rounded so that the value is within a limit of them."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    return f"{(math.floor if down else math.ceil)(round(value / step, 6)) * step:.10g}"


@dataclass(frozen=True)
class Limits:
    """All limits of a choice; None is no limit. See ``choice.choose`` for their meaning."""

    max_drop: float | None = 0.5
    max_latency_ms: float | None = None
    min_images_per_second: float | None = None
    max_memory_mib: float | None = None
    max_engine_mib: float | None = None
    max_joules_per_image: float | None = None
    latency: str = "p99_ms"

    def __post_init__(self):
        one_of("latency column", self.latency, ("p99_ms", "p90_ms", "p50_ms"))
        for name in NAMES:
            value = getattr(self, name)
            refuse_unless(
                value is None
                or (isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)),
                f"{name} must be a number",
                why=f"it is {value!r}",
                remedy="give a number in the unit of its name (max_drop: percentage points), or None for no limit",
            )

    def __iter__(self) -> Iterator[Limit]:
        percentile = self.latency.removesuffix("_ms")
        table = (
            ("max_drop", "drop_points", "at most {} points lost", "points lost"),
            ("max_latency_ms", self.latency, f"{percentile} at most {{}} ms", f"ms ({percentile})"),
            ("min_images_per_second", "images_per_second", "at least {} images/s", "images/s"),
            ("max_memory_mib", "memory_mib", "at most {} MiB of memory", "MiB of memory"),
            ("max_engine_mib", "engine_mib", "an engine of at most {} MiB", "MiB of engine"),
            ("max_joules_per_image", "joules_per_image", "at most {} J per image", "J per image"),
        )
        for name, column, words, unit in table:
            if (value := getattr(self, name)) is not None:
                yield Limit(name, column, float(value), words, unit, least=name.startswith("min_"))

    def __str__(self) -> str:
        *first, last = map(str, self) if any(True for _ in self) else ("none",)
        return f"{', '.join(first)} and {last}" if first else last

    def within(self, rows: pd.DataFrame, but: Limit | None = None) -> pd.DataFrame:
        """The rows that keep all limits, or all ``but`` one."""
        for limit in self:
            if limit != but:
                rows = rows[limit.within(rows)]
        return rows

    def unmeasured(self, rows: pd.DataFrame) -> Refusal | None:
        """Why a limit cannot be kept by any row: nothing was measured that it limits. None where all were."""
        for limit in self:
            if rows[limit.column].isna().all():
                energy = limit.column == "joules_per_image"
                return Refusal(
                    f"{limit.column} was measured of no row, so that nothing is known to have {limit}",
                    "measure on a machine whose energy can be read (an NVIDIA GPU, or RAPL under Linux)"
                    if energy
                    else f"leave {limit.name} out, or measure again",
                )
        return None
