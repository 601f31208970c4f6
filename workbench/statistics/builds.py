"""Is one variant faster than another, whichever build of each is taken?

Builders choose kernels by timing them, so that two builds of one file differ. A comparison of two engines says
nothing about the next build; here each build is one observation, and the verdict covers builds yet to be made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import refuse_unless
from ..records import Measurement
from .compare import were_interleaved
from .intervals import CONFIDENCE
from .sample_size import sample_to_decide
from .verdict import CANNOT_TELL, Interval, side_of


@dataclass(frozen=True)
class BuildsComparison:
    """The builds of a variant compared with those of another; the interval has 95 % confidence.

    Attributes:
        speed: ``faster``, ``slower`` or ``cannot tell``.
        speedup: latency of a typical build of the other over that of this one.
        speedup_interval: what the true ratio of typical builds may be.
        builds: how many of each.
        spreads: slowest over fastest build of each, less one.
        builds_needed: about how many builds of each would decide with 80 % power; None where it is decided.
    """

    speed: str
    speedup: float
    speedup_interval: Interval
    builds: tuple[int, int]
    spreads: tuple[float, float]
    builds_needed: int | None

    def __str__(self) -> str:
        (low, high), (ours, theirs) = self.speedup_interval, self.builds
        sentence = (
            f"Speed: {self.speed}, {self.speedup:.2f} × ({CONFIDENCE:.0%} {low:.2f} to {high:.2f}; {ours} and"
            f" {theirs} builds, which differ by up to {self.spreads[0]:.1%} and {self.spreads[1]:.1%})."
        )
        return sentence + (
            f" About {self.builds_needed} builds of each would decide." if self.builds_needed else ""
        )


def compare_builds(ours: Sequence[Measurement], theirs: Sequence[Measurement]) -> BuildsComparison:
    """Compare the speed of builds of one variant with that of builds of another.

    In every round that all builds took part in, each is set against the mean of that round, so that what the
    machine did meanwhile falls out. The median over the rounds is the level of a build. The ratio of the two groups
    of levels has Welch's interval (1947, Biometrika 34:28-35): it supposes that the logarithms of the latencies of
    builds are about normal, and widens where builds differ or are few.

    Args:
        ours: a measurement of each build, as ``repeat_builds_together`` makes them.
        theirs: of the builds that they are compared with.

    Raises:
        WorkbenchError: fewer than two builds of either, or they were not all timed in the same rounds.
    """
    refuse_unless(
        min(len(ours), len(theirs)) >= 2,
        "One build shows no spread",
        why=f"there are {len(ours)} and {len(theirs)} builds",
        remedy="build each variant 2 times or more; 5 decide far more than 2",
    )
    every = [*ours, *theirs]
    refuse_unless(
        all(each.rounds and were_interleaved(each, every[0]) for each in every),
        "These builds cannot be compared",
        why="they were not all timed in the same rounds",
        remedy="measure them with repeat_builds_together",
    )
    levels = _levels(every)
    a, b = levels[: len(ours)], levels[len(ours) :]
    middle, reach = float(b.mean() - a.mean()), _reach(a, b)
    interval = math.exp(middle - reach), math.exp(middle + reach)
    verdict, fewer = side_of(interval, 1.0, "faster", "slower"), min(len(a), len(b))
    needed = sample_to_decide(middle, (middle - reach, middle + reach), 0.0, fewer)
    return BuildsComparison(
        speed=verdict,
        speedup=math.exp(middle),
        speedup_interval=interval,
        builds=(len(a), len(b)),
        spreads=(math.expm1(float(np.ptp(a))), math.expm1(float(np.ptp(b)))),
        builds_needed=needed if verdict == CANNOT_TELL else None,
    )


def _levels(measurements: Sequence[Measurement]) -> np.ndarray:
    """The logarithm of each build's latency against the mean of its rounds."""
    medians = [pd.Series(each.latencies_s).groupby(list(each.rounds)).median() for each in measurements]
    together = pd.concat(medians, axis=1).dropna()  # the rounds that all took part in
    refuse_unless(
        not together.empty,
        "These builds cannot be compared",
        why="no round timed all of them",
        remedy="time them for longer, or at a smaller batch",
    )
    logs = np.log(together.to_numpy().T)
    return np.median(logs - logs.mean(axis=0), axis=1)


def _reach(a: np.ndarray, b: np.ndarray) -> float:
    """Half the width of Welch's interval for the difference of two means."""
    from scipy import stats  # here, so that a panel does not wait for SciPy's import

    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    if not parts.sum():
        return 0.0
    freedom = parts.sum() ** 2 / (parts**2 / (np.array([len(a), len(b)]) - 1)).sum()
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom) * math.sqrt(parts.sum()))
