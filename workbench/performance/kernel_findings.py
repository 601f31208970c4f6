"""What the kernels of a built engine show to be wrong with it: another type than the recipe's, attention apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from ..graphs.analysis.findings import ordered
from ..graphs.analysis.findings.finding import GRAPH, Finding
from ..places import is_excluded
from ..records import PRECISIONS, Engine, Recipe
from .cost import LINEAR_ROLES
from .engine_kernels import placed_kernels
from .kernel_places import PlacedKernel
from .layers import ATTENTION

#: Share of a call's kernels above which copies and reformats are worth a note.
MOVES_SHARE = 0.1
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def engine_findings(engine: Engine, *, batch: int | None = None):
    """Hazards of a built engine, read from the kernels of one call.

    Args:
        engine: of TensorRT.
        batch: see ``kernels``.

    Returns:
        A pandas data frame with a row per hazard, errors first: ``hazard``, ``severity`` (``error``, ``warning``,
        ``note``), ``where``, ``mitigation`` and ``help``.

    Raises:
        WorkbenchError: the kernels were not traced before, and cannot be here.
    """
    import pandas as pd

    placed, _ = placed_kernels(engine, batch)
    rows = find_in_kernels(placed, engine.variant.recipe)
    return pd.DataFrame([row[:5] for row in rows], columns=Finding._fields[:5])


def find_in_kernels(placed: Sequence[PlacedKernel], recipe: Recipe) -> list[Finding]:
    """Every finding in the placed kernels of an engine that a recipe was asked of."""
    return ordered(finding for detector in DETECTORS for finding in detector(placed, recipe))


def other_types(placed: Sequence[PlacedKernel], recipe: Recipe) -> Iterable[Finding]:
    """Linear layers that multiply in another type than the recipe's: ``asked for INT8, multiplies in TF32``."""
    asked = PRECISIONS[recipe.precision].multiplies_in or recipe.resolved_high_precision
    products = [
        one
        for one in placed
        if one.kernel.is_product
        and one.place.block is not None
        and one.place.role in LINEAR_ROLES
        and not is_excluded(one.nodes[0], recipe.exclude)
    ]
    found = Counter(one.kernel.type for one in products if one.kernel.type not in (asked, None))
    for kind, count in found.items():
        these = [one for one in products if one.kernel.type == kind]
        yield Finding(
            f"asked for {asked.upper()}, multiplies in {str(kind).upper()}: {count} of {len(products)} products",
            "note" if (asked, kind) == ("fp32", "tf32") else "warning",
            _where(these),
            _mitigation(asked),
            f"kernels such as {these[0].kernel.name[:60]}{_guessed(these)}",
        )


def _mitigation(asked: str) -> str:
    if asked == "fp32":
        return "expected: TensorRT multiplies float32 in TF32 by default; the logits differ by about 1e-3"
    if asked in ("int8", "fp8"):
        return (
            f"the Q/DQ around these layers did not become {asked.upper()} products: try scope='attention', "
            "high_precision='fp16', or a newer TensorRT"
        )
    return f"the builder found these layers faster, or has no {asked.upper()} kernel for them: try a newer TensorRT"


def attention_apart(placed: Sequence[PlacedKernel], recipe: Recipe) -> Iterable[Finding]:
    """Attention in several kernels: ``attention in three kernels, not one``."""
    blocks: dict[str, list[PlacedKernel]] = {}
    for one in placed:
        if one.place.block is not None and one.place.role in ATTENTION:
            blocks.setdefault(one.place.block, []).append(one)
    apart = {block: found for block, found in blocks.items() if not any(one.kernel.is_attention for one in found)}
    by_count: dict[int, list[PlacedKernel]] = {}
    for found in apart.values():
        by_count.setdefault(len(found), []).extend(found)
    for count, found in by_count.items():
        types = sorted({one.kernel.type for one in found if one.kernel.type})
        share = sum(one.kernel.seconds for one in found) / sum(one.kernel.seconds for one in placed)
        yield Finding(
            f"attention in {_number(count)} kernels, not one",
            "warning",
            _where(found),
            "quantize all of attention (scope='attention') or compute it in half (high_precision='fp16'), or use a "
            "newer TensorRT",
            f"its products compute in {', '.join(map(str.upper, types)) or 'an unknown type'} and take {share:.0%} "
            f"of the time{_guessed(one for one in found if one.kernel.is_product)}",
        )


def moves(placed: Sequence[PlacedKernel], recipe: Recipe) -> Iterable[Finding]:
    """Kernels that only copy and repack, where they take a good part of the call."""
    found = [one for one in placed if one.layer.is_reformat]
    share = sum(one.kernel.seconds for one in found) / sum(one.kernel.seconds for one in placed)
    if share >= MOVES_SHARE:
        yield Finding(
            f"{len(found)} kernels that only copy or repack take {share:.0%} of the time",
            "note",
            _where(found),
            "look at what stands beside them: a convolution that wants another layout, or pairs of Q/DQ",
            f"the longest is {max(found, key=lambda one: one.kernel.seconds).kernel.name[:60]}",
        )


Detector = Callable[[Sequence[PlacedKernel], Recipe], Iterable[Finding]]
DETECTORS: tuple[Detector, ...] = (other_types, attention_apart, moves)


def _where(placed: Iterable[PlacedKernel]) -> str:
    """Where kernels stand: roles outside the blocks, then the first and the last block and the roles there."""
    places = [one.place for one in placed]
    outside = list(dict.fromkeys(place.role for place in places if place.block is None))
    blocks = sorted({place.block for place in places if place.block})
    if blocks:
        span = blocks[0] if len(blocks) == 1 else f"{blocks[0]} to {blocks[-1]} ({len(blocks)})"
        roles = dict.fromkeys(place.role for place in places if place.block)
        outside.append(f"{span}: {', '.join(roles)}")
    return "; ".join(outside) or GRAPH


def _guessed(placed: Iterable[PlacedKernel]) -> str:
    return "; the places are a guess" if any(one.guess for one in placed) else ""


def _number(count: int) -> str:
    return _WORDS[count] if count < len(_WORDS) else str(count)
