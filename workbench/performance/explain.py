"""Why is one engine not faster than another? The difference of their times, by cause, block and role.

Every layer of both engines has one cause. The change of each cause is a step of a waterfall from the time of one
call to that of the other. The runtime gives the time of each layer; where it compiled the whole encoder into one
layer, its GPU kernels take their place. Engines that cannot run here are compared by the kernels that were traced
on their GPU, or estimated layer by layer, from what was fused into the layer and from the card's published peaks;
the result says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import pandas as pd

from ..backends.hardware.kernel_trace import tracer_missing
from ..backends.tensorrt.layers import Layer
from ..errors import WorkbenchError, one_of, refuse_unless
from ..graphs.structure.operators import QDQ
from ..places import Place
from ..records import Engine, Measurement
from ..statistics.compare import Comparison, compare
from ..statistics.verdict import CANNOT_TELL
from .engine_kernels import known_kernels, placed_kernels, timed_kernels
from .layer_estimate import estimate_layers
from .layers import (
    ATTENTION,
    LINEAR,
    Timed,
    is_product,
    main_place,
    places_of,
    runs_here,
    time_layers,
)

#: The operations of a generated kernel that only rounds to eight bits or back.
ROUNDING = frozenset(("Mul", "Div", "Add", "Sub", "Min", "Max", "Roun", "Cast"))
#: The causes in the order of the waterfall.
CAUSES = ("products", "attention", "quantize", "reformat", "fusion lost", "rest", "between layers")


@dataclass(frozen=True)
class Explanation:
    """The difference between two engines' times, by cause.

    Attributes:
        base: the label of the engine to compare with, such as ``tensorrt T4 fp16``.
        other: the label of the engine that is explained.
        base_s: seconds of one call of ``base``.
        other_s: seconds of one call of ``other``.
        rows: ``block``, ``role``, ``cause``, ``base_ms``, ``other_ms``; one for each cause in a role of a block.
        measured: whether the times were measured; otherwise they are estimated.
        note: what the times rest on.
        comparison: of whole calls, where both engines were timed in turns: the verdict, and its interval.
    """

    base: str
    other: str
    base_s: float
    other_s: float
    rows: tuple[Mapping, ...]
    measured: bool
    note: str
    comparison: Comparison | None = None

    @property
    def ratio(self) -> float:
        """How many times as fast ``other`` is; what the first and the last bar of the waterfall say too."""
        return self.base_s / self.other_s

    @property
    def outcome(self) -> str:
        """Which engine is faster, in a few words: measured with its interval, or estimated."""
        if self.comparison is not None and math.isnan(self.comparison.speedup):
            return " ".join((f"{self.comparison.speed}.", *self.comparison.notes[:1]))
        times = f"{self.ratio:.2f} times as fast"
        if self.comparison is not None:
            low, high = self.comparison.speedup_interval
            sure = f"{times} (95 % interval {low:.2f} to {high:.2f})"
            return (
                f"cannot tell, {sure}"
                if self.comparison.speed == CANNOT_TELL
                else f"{self.comparison.speed}, {sure}"
            )
        return times if self.measured else f"estimated {times}"

    @cached_property
    def changes(self) -> pd.Series:
        """Cause -> milliseconds that ``other`` takes more."""
        return self.frame.groupby("cause")["change_ms"].sum()

    def by_role_and_cause(self) -> pd.DataFrame:
        """Milliseconds that ``other`` takes more: a row per role, a column per cause."""
        table = self.frame.pivot_table(
            index="role", columns="cause", values="change_ms", aggfunc="sum", fill_value=0.0
        )
        return table.round(3).rename(index={"": "between layers"}).rename_axis(index=None, columns=None)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """``block``, ``role``, ``cause``, ``base_ms``, ``other_ms`` and ``change_ms``."""
        frame = pd.DataFrame(self.rows)
        frame["change_ms"] = frame.other_ms - frame.base_ms
        return frame

    def steps(self, by: str = "cause") -> pd.DataFrame:
        """``step``, ``kind`` and ``ms``, as ``figures.waterfall`` draws them; the steps add up to the difference.

        Args:
            by: the kind of step: ``cause``, ``role`` or ``block``; outside the blocks the role counts. Roles and
                blocks that change by less than a thousandth of the time are one step together.

        Raises:
            WorkbenchError: there are no such steps.
        """
        one_of("kind of step", by, ("cause", "role", "block"))
        named = self.frame[by].mask(self.frame[by] == "", self.frame.role)
        change = self.frame.change_ms.groupby(named.mask(named == "", self.frame.cause), sort=False).sum()
        small = change.abs() < self.base_s  # seconds in ms: a thousandth
        if by == "cause":
            change = change.reindex([cause for cause in CAUSES if cause in change])
        elif small.any():
            change = pd.concat([change[~small], pd.Series({"all others": change[small].sum()})])
        between = [(step, "change", float(ms)) for step, ms in change.items()]
        ends = (self.base, "total", 1e3 * self.base_s), (self.other, "total", 1e3 * self.other_s)
        return pd.DataFrame([ends[0], *between, ends[1]], columns=["step", "kind", "ms"])

    def __str__(self) -> str:
        change = self.changes.sort_values()
        causes = ", ".join(f"{cause} {ms:+.3g} ms" for cause, ms in change.items() if abs(ms) >= 5e-4)
        word = "takes" if self.measured else "is estimated to take"
        return (
            f"{self.other} {word} {1e3 * self.other_s:.3g} ms a call, {self.base} {1e3 * self.base_s:.3g} ms: "
            f"{self.outcome}. {causes or 'No cause differs'}. {self.note}"
        )


def explain(
    base: Engine,
    other: Engine,
    *,
    batch: int | None = None,
    card: str | None = None,
    calls: Sequence[Measurement] | None = None,
) -> Explanation:
    """Explain the difference in speed between two engines of the same model.

    Args:
        base: what to compare with, such as the FP16 engine.
        other: the engine to explain, such as the INT8 one.
        batch: images per call; None takes the size that ``base`` is tuned for.
        card: the card to estimate for where the engines cannot be run here; None compares kernels that were traced
            before, else takes the card of ``other``.
        calls: the measurements of ``base`` and of ``other`` at this batch, from ``measure_interleaved``. The
            explanation then ends at their speed-up, so that it cannot contradict it: the first bar is the median
            call of ``base``, and the last is the first divided by the speed-up. Layers, which are timed at another
            moment, keep their share of a call. None times whole calls of the two one after the other.

    Raises:
        WorkbenchError: they are of different models, or can neither be run here nor estimated: no card is named,
            its peaks or the model's shape are not known, or the compiler hides the layers.
    """
    ours, theirs = base.variant.graph.spec, other.variant.graph.spec
    refuse_unless(
        ours == theirs,
        "The two engines are not of the same model",
        why=f"they are {ours} and {theirs}",
        remedy="build both from variants of one graph",
    )
    batch = base.batches.opt if batch is None else batch
    if all(map(runs_here, (base, other))):
        timed = [_timed_here(engine, batch) for engine in (base, other)]
        runtimes = " and ".join(dict.fromkeys((base.backend, other.backend)))
        note = f"Times of layers or kernels of {runtimes} at batch {batch}."
        made = compare_layers(base.label, other.label, *timed, measured=True, note=note)
        return made if calls is None else _ending_at(made, *calls)
    if card is None and all(known_kernels(engine, batch) for engine in (base, other)):
        layers = [_kernels(engine, batch) for engine in (base, other)]
        timed = [(each, sum(one.seconds for one in each)) for each in layers]
        note = f"Kernel times recorded on the engines' GPUs at batch {batch}; a call is the sum of its kernels."
        return compare_layers(base.label, other.label, *timed, measured=True, note=note)
    card = card or other.card or base.card
    if card is None:
        raise WorkbenchError(
            f"{other.label} can neither be run here nor estimated",
            why="its runtime does not run here, and no card is named",
            remedy="run on a host with the GPU, or name the card, such as card='T4'",
        )
    timed = [estimate_layers(engine, batch, card) for engine in (base, other)]
    note = (
        f"Estimated for {card} at batch {batch} from each engine's list of layers, counted FLOP and bytes, and the "
        "card's published peaks; nothing was run."
    )
    return compare_layers(base.label, other.label, *timed, measured=False, note=note)


def _ending_at(made: Explanation, base: Measurement, other: Measurement) -> Explanation:
    """The explanation with the whole calls of two measurements; each layer keeps its share of its call."""
    comparison = compare(other, base)
    base_s = base.p50_ms / 1e3
    other_s = other.p50_ms / 1e3 if math.isnan(comparison.speedup) else base_s / comparison.speedup
    ours, theirs = base_s / made.base_s, other_s / made.other_s
    rows = tuple(
        {**row, "base_ms": ours * row["base_ms"], "other_ms": theirs * row["other_ms"]} for row in made.rows
    )
    note = f"{made.note} Whole calls were timed in turns; each layer has its share of them."
    return replace(made, base_s=base_s, other_s=other_s, rows=rows, note=note, comparison=comparison)


def _timed_here(engine: Engine, batch: int) -> tuple[list[Timed], float]:
    """The layers of an engine with their seconds; where one hides the encoder, its kernels if they can be listed.

    Returns:
        The layers or kernels, and the median seconds of a call.
    """
    layers, call_s = time_layers(engine, batch)
    hidden = any(layer.is_opaque for layer, _ in layers)
    if hidden and (known_kernels(engine, batch) or (engine.variant.graph.spec and not tracer_missing())):
        return _kernels(engine, batch), call_s
    return layers, call_s


def _kernels(engine: Engine, batch: int) -> list[Timed]:
    """The kernels of a call as timed layers; traced where they are not known yet."""
    return timed_kernels(placed_kernels(engine, batch)[0])


def compare_layers(
    base: str,
    other: str,
    base_layers: tuple[Sequence[Timed], float],
    other_layers: tuple[Sequence[Timed], float],
    *,
    measured: bool,
    note: str,
) -> Explanation:
    """The explanation of two lists of layers, each with the seconds of its whole call."""
    (ours, base_s), (theirs, other_s) = base_layers, other_layers
    lost = _lost(theirs, _fused_into_products(ours))
    rows: dict[tuple, list[float]] = {}
    for column, layers in enumerate((ours, theirs)):
        for one in _causes(layers, lost):
            rows.setdefault((one.block, one.role, one.cause), [0.0, 0.0])[column] += one.seconds
    between = [whole_s - sum(one.seconds for one in layers) for layers, whole_s in (base_layers, other_layers)]
    if measured:  # an estimate is the sum of its layers
        rows["", "", "between layers"] = between
    table = tuple(
        {"block": block, "role": role, "cause": cause, "base_ms": 1e3 * a, "other_ms": 1e3 * b}
        for (block, role, cause), (a, b) in rows.items()
    )
    return Explanation(base, other, base_s, other_s, table, measured, note)


# ---- causes ------------------------------------------------------------------------------------------------------


class _Caused(NamedTuple):
    block: str
    role: str
    cause: str
    seconds: float
    places: tuple[Place, ...]


def _lost(layers: Sequence[Timed], fused: set[Place]) -> set[Place]:
    """The places of the layers that compute separately what the base engine computes inside its products.

    Such a layer often computes something else too, a LayerNorm for example, for which the base has a layer of its
    own. All its places are returned, so that the layers of both engines have the same cause.
    """
    apart = (one for one in _causes(layers, fused) if one.cause == "fusion lost")
    return {place for one in apart for place in one.places if place.role not in LINEAR}


def _causes(layers: Sequence[Timed], lost: set[Place]) -> list[_Caused]:
    """The cause of each layer."""
    found = []
    for (layer, seconds), places in zip(layers, places_of(layers)):
        main = main_place(places)
        found.append(_Caused(main.block or "", main.role, cause_of(layer, places, lost), seconds, places))
    return found


def cause_of(layer: Layer, places: Sequence[Place], lost: set[Place]) -> str:
    """One of ``CAUSES``.

    Args:
        layer: the layer.
        places: of its nodes.
        lost: places where one engine computes separately what the other computes inside its products.
    """
    roles = {place.role for place in places}
    if layer.is_attention or (roles and roles <= {*ATTENTION}):
        return "attention"
    if is_product(layer):
        return "attention" if roles.intersection(ATTENTION) else "products"
    if layer.kind in QDQ or _only_rounds(layer) or _only_weights(layer):
        return "quantize"
    if layer.is_reformat or layer.kind in ("Cast", "Transpose", "Reshape", "ReorderInput", "ReorderOutput"):
        return "reformat"
    return "fusion lost" if lost.intersection(places) else "rest"


def _only_rounds(layer: Layer) -> bool:
    return "Roun" in layer.operations and ROUNDING.issuperset(layer.operations)


def _only_weights(layer: Layer) -> bool:
    """Whether a kernel dequantizes weights at every call, because the product is not computed in 8 bits."""
    return not layer.inputs and any(node.endswith("weight/dequantize") for node in layer.nodes)


def _fused_into_products(layers: Iterable[Timed]) -> set[Place]:
    """GELUs and residuals that are part of a product's layer."""
    found = (place for layer, _ in layers if is_product(layer) for place in layer.places)
    return {place for place in found if place.role in ("gelu", "activation", "residual")}
