"""The time of attention, MLP and the rest over resolution: curves, and where attention is the slower one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from ..backends.hardware.load import Load, watched
from ..errors import refuse_unless
from ..progress import Progress, silent
from ..records import ModelSpec
from .crossover import Crossover, crossover_at, tokens_at
from .curves import Curve, fit
from .parts import PARTS, Split

#: Part -> seconds of single calls of it; ``whole`` is the model itself.
Times = Mapping[str, Sequence[float]]
#: Times a model of one resolution; ``JaxMeter`` and ``EngineMeter`` are two.
Meter = Callable[[ModelSpec], Times]
#: All sizes are measured this often, interleaved, so that a slow minute does not fall on one of them.
ROUNDS = 2
#: Powers of the number of tokens in a part's cost, from the formulas of ``performance.cost``. The power 0 is the
#: fixed cost of a call, such as the launch of a GPU's kernels.
TERMS = {"attention": (0, 1, 2), "mlp": (0, 1), "rest": (0, 1), "whole": (0, 1, 2)}
#: Four sizes for three coefficients, and one that is held back.
FEWEST_SIZES = 5


@dataclass(frozen=True)
class Profile:
    """The times of a model's parts over resolution.

    Attributes:
        spec: the model; its own image size is not used.
        source: what was timed, such as ``jax on cpu``.
        splits: image size -> the time of a call by part; the fastest call of each part, because other work on the
            machine only ever adds to a time.
        spread: (image size, part) -> the fastest and the median call, seconds.
        held_back: the size that no curve was fitted to; it tests the extrapolation.
        load: what else the machine did meanwhile.
    """

    spec: ModelSpec
    source: str
    splits: Mapping[int, Split]
    spread: Mapping[tuple[int, str], tuple[float, float]]
    held_back: int
    load: Load = field(default_factory=Load)

    @cached_property
    def curves(self) -> Mapping[str, Curve]:
        """Part -> seconds over tokens, fitted to every size but the one that is held back."""
        sizes = [size for size in self.splits if size != self.held_back]
        tokens = [tokens_at(self.spec, size) for size in sizes]
        return {part: fit(tokens, [self.seconds(size, part) for size in sizes], TERMS[part]) for part in TERMS}

    def seconds(self, size: int, part: str) -> float:
        """Seconds of a part, or of the whole, at one image size."""
        split = self.splits[size]
        return split.whole_s if part == "whole" else split.seconds[part]

    def crossover(self) -> tuple[Crossover, Crossover, Crossover] | None:
        """Where attention begins to take longer than the MLP: 2.5 % quantile, median and 97.5 % quantile.

        They come from random draws of both curves' coefficients. None where the draws give no such point.
        """
        return self.crossover_of(self.spec)

    def crossover_of(self, spec: ModelSpec) -> tuple[Crossover, Crossover, Crossover] | None:
        """The same point for another size of ViT on the same machine.

        The measured seconds belong to 4·S·D² and 2·S²·D MAC in attention and to 2·S·D·M in the MLP. This assumes
        that each of the three keeps its speed at any width, and that the fixed cost of a call stays. With D, M the
        widths of the other model and d, m those of this one, the curves scale by D²/d², D/d and D·M/(d·m).
        """
        wide, hidden = spec.width / self.spec.width, spec.mlp / self.spec.mlp
        attention, mlp = self.curves["attention"].draws(), self.curves["mlp"].draws()
        square = wide * attention[:, 2]
        linear = wide**2 * attention[:, 1] - wide * hidden * mlp[:, 1]
        fixed = attention[:, 0] - mlp[:, 0]
        tokens = _last_root(square, linear, fixed)
        possible = np.isfinite(tokens)
        if possible.mean() < 0.975:
            return None
        low, middle, high = map(float, np.quantile(tokens[possible], (0.025, 0.5, 0.975)))
        return crossover_at(spec, low), crossover_at(spec, middle), crossover_at(spec, high)

    def extrapolated(self, spec: ModelSpec) -> tuple[str, str, str]:
        """``crossover_of`` another model in tokens and pixels: the median and both ends of its 95 % interval."""
        found = self.crossover_of(spec)
        if found is None:
            return "cannot tell", "–", "–"
        low, middle, high = (f"{at.tokens:,.0f} tokens, {at.image_size:,.0f} px" for at in found)
        return middle, low, high

    def verdict(self) -> str:
        """One sentence: where attention takes longer than the MLP, or that the times cannot tell."""
        crossover = self.crossover()
        if crossover is None:
            return (
                f"Where attention overtakes the MLP, the times of {self.source} cannot tell: they scatter too much."
            )
        low, middle, high = crossover
        return (
            f"On {self.source}, attention overtakes the MLP at {middle.tokens:,.0f} tokens, an image of "
            f"{middle.image_size:,.0f} pixels (95 % interval {low.tokens:,.0f} to {high.tokens:,.0f} tokens, "
            f"{low.image_size:,.0f} to {high.image_size:,.0f} pixels)."
        )

    def extrapolation(self) -> pd.DataFrame:
        """The prediction of the curves for the size that was held back, a row per part.

        Columns: ``part``, ``predicted_ms`` with its 95 % band ``low`` to ``high``, ``measured_ms``, ``error`` (of
        the prediction, as a share of the measurement) and ``inside`` (whether the measurement lies in the band).
        """
        tokens = tokens_at(self.spec, self.held_back)
        rows = []
        for part, curve in self.curves.items():
            predicted, low, high = curve.predict([tokens], new=True)[0]
            measured = self.seconds(self.held_back, part)
            low = max(0.0, low)  # no call takes less
            rows.append((part, predicted, low, high, measured, predicted / measured - 1, low <= measured <= high))
        frame = pd.DataFrame(
            rows, columns=["part", "predicted_ms", "low", "high", "measured_ms", "error", "inside"]
        )
        frame[["predicted_ms", "low", "high", "measured_ms"]] *= 1e3
        return frame

    def frame(self) -> pd.DataFrame:
        """A row per size and part: ``image_size``, ``tokens``, ``part``, ``kind``, ``ms``, ``low``, ``high``.

        ``kind`` is ``measured``, with the fastest and the median call, or ``fitted``, with the 95 % confidence band
        of the curve. ``figures.attention_cost`` draws it.
        """
        return pd.DataFrame([*self._measured(), *self._fitted()])

    def _measured(self) -> Iterator[dict]:
        for size in self.splits:
            for part in (*PARTS, "whole"):
                seconds = (self.seconds(size, part), *self.spread[size, part])
                yield self._row(size, part, "measured", seconds)

    def _fitted(self) -> Iterator[dict]:
        grid = range(min(self.splits), max(self.splits) + 1, self.spec.patch)
        for part, curve in self.curves.items():
            for size, seconds in zip(grid, curve.predict([tokens_at(self.spec, size) for size in grid])):
                yield self._row(size, part, "fitted", seconds)

    def _row(self, size: int, part: str, kind: str, seconds) -> dict:
        ms, low, high = (1e3 * s for s in seconds)
        tokens = tokens_at(self.spec, size)
        return {
            "image_size": size,
            "tokens": tokens,
            "part": part,
            "kind": kind,
            "ms": ms,
            "low": low,
            "high": high,
        }


def profile_attention(
    spec: ModelSpec,
    sizes: Sequence[int],
    *,
    meter: Meter | None = None,
    source: str = "the machine that was timed",
    held_back: int | None = None,
    progress: Progress = silent,
) -> Profile:
    """Measure attention, MLP and the rest at several resolutions.

    Args:
        spec: the model; its weights are random, because they do not change the time.
        sizes: image sizes in pixels, five different ones at least; seven give a narrow band.
        meter: times a model of one resolution; None times the parts in JAX on its default device, one image a call.
        source: what the meter times, for titles.
        held_back: the size that tests the extrapolation; None takes the largest.
        progress: gets the stage ``resolution``.

    Raises:
        WorkbenchError: too few sizes, one that the patch does not divide, one to hold back that is not measured, or
            a meter that leaves a part out.
    """
    sizes = sorted(set(sizes))
    largest = sizes[-1] if sizes else 0
    held_back = largest if held_back is None else held_back
    refuse_unless(
        len(sizes) >= FEWEST_SIZES and held_back in sizes,
        "No curve can be fitted and checked",
        why=f"the sizes are {sizes}, and {held_back} is held back",
        remedy=f"give {FEWEST_SIZES} sizes or more, the one to hold back among them",
    )
    specs = [dataclasses.replace(spec, image_size=size) for size in sizes]  # refuses what the patch does not divide
    if meter is None:
        from ..models.meter import JaxMeter, device

        meter, source = JaxMeter(), f"jax on {device()}"
    with watched() as watch:
        times = _interleaved(meter, specs, progress)
    splits = {
        size: Split({part: min(own[part]) for part in PARTS}, min(own["whole"])) for size, own in times.items()
    }
    spread = {
        (size, part): (min(seconds), float(np.median(seconds)))
        for size, own in times.items()
        for part, seconds in own.items()
    }
    return Profile(spec, source, splits, spread, held_back, watch.load)


def _interleaved(meter: Meter, specs: Sequence[ModelSpec], progress: Progress) -> dict[int, dict[str, list[float]]]:
    """Image size -> part -> seconds of single calls of all rounds."""
    times: dict[int, dict[str, list[float]]] = {spec.image_size: {} for spec in specs}
    steps = [spec for _ in range(ROUNDS) for spec in specs]
    for done, spec in enumerate(steps):
        progress("resolution", done, len(steps))
        for part, seconds in _timed(meter, spec).items():
            times[spec.image_size].setdefault(part, []).extend(seconds)
    progress("resolution", len(steps), len(steps))
    return times


def _timed(meter: Meter, spec: ModelSpec) -> Times:
    times = meter(spec)
    refuse_unless(
        set(times) == set(TERMS),
        "The meter does not time every part",
        why=f"it gave {', '.join(times) or 'nothing'} at {spec.image_size} pixels",
        remedy=f"let it give seconds of {', '.join(TERMS)}",
    )
    return times


def _last_root(square, linear, fixed) -> np.ndarray:
    """The S above which square·S² + linear·S + fixed stays above zero: 0 where it always is, NaN for nowhere."""
    inside = linear**2 - 4 * square * fixed
    with np.errstate(divide="ignore", invalid="ignore"):
        root = (np.sqrt(np.maximum(inside, 0)) - linear) / (2 * square)
    root = np.where(inside < 0, 0.0, np.maximum(root, 0.0))
    return np.where(square > 0, root, np.nan)
