"""Tables of a recorded run, computed from its raw values: precisions, models, memory, streams, profiles, accuracy.

Throughput is *compute* where nothing else is said: images already on the device, counted. The limit is that of the
card's published peaks, see ``performance.expected``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..models.sizes import model_spec
from ..performance.cost import cost
from ..performance.expected import ARTICLE, Expectation, expected
from ..performance.kernel_places import PlacedKernel
from ..records import ModelSpec
from ..statistics.intervals import discordant_pairs, paired_interval
from ..studies.recorded import RecordedCase, RecordedRun, precision_of

#: The model that comes with the workbench; it is none of the published sizes.
SHIPPED = "shapes-vit"


def precisions(run: RecordedRun, model: str = "ViT-B/32", batch: int = 32) -> pd.DataFrame:
    """One model at one batch, in every runtime and precision, one caller.

    Columns: ``case``, ``runtime``, ``precision``, ``img/s`` (compute), ``× fp32`` (over TensorRT's, NaN without
    one), ``share of limit``, ``end to end, img/s``, ``p50 ms``, ``p99 ms``, ``busy cores`` and ``recorded``.
    """
    frame = _alone(run)
    rows = frame[(frame.model == model) & (frame.batch == batch)]
    plain = rows[rows.runtime.str.startswith("TensorRT") & (rows.precision == "fp32")].compute_images_per_second
    base = plain.max() if len(plain) else math.nan
    return pd.DataFrame(
        {
            "case": rows.case,
            "runtime": rows.runtime,
            "precision": rows.label,
            "img/s": rows.compute_images_per_second,
            "× fp32": rows.compute_images_per_second / base,
            **_speeds(run, rows),
        }
    ).reset_index(drop=True)


def _speeds(run: RecordedRun, rows: pd.DataFrame) -> dict:
    """The columns of ``precisions`` and ``models`` about speed, and what was recorded beside it."""
    return {
        "share of limit": [_share(run, row) for row in rows.to_dict("records")],
        "end to end, img/s": rows.images_per_second,
        "p50 ms": rows.p50_ms,
        "p99 ms": rows.p99_ms,
        "busy cores": rows["busy cores"],
        "recorded": rows.recorded,
    }


def beside_article(run: RecordedRun) -> pd.DataFrame:
    """``precisions`` of ViT-B/32 at batch 32, beside the table of the article that this project starts from.

    Two columns more: ``article on a T4, img/s``, and ``its share of limit``, of the T4's; NaN where the article has
    no such row.
    """
    table = precisions(run, "ViT-B/32", 32)
    ours = table.runtime.str.startswith("TensorRT")
    names = table.precision.str.split().str[0].where(ours)
    limits = {name: expected(_spec("B/32"), "T4", name, 32).limit_images_per_second for name in ARTICLE}
    table.insert(len(table.columns) - 1, "article on a T4, img/s", names.map(ARTICLE))
    shares = names.map({name: rate / limits[name] for name, rate in ARTICLE.items()})
    table.insert(len(table.columns) - 1, "its share of limit", shares)
    return table


def roofline_points(run: RecordedRun, model: str = "ViT-B/32", batch: int = 32) -> pd.DataFrame:
    """The rows of ``precisions`` as points for ``figures.roofline``.

    Columns: ``label`` (the case), ``precision``, ``intensity`` (FLOP/byte) and ``gflops`` (10⁹ FLOP/s).
    """
    table = precisions(run, model, batch)
    names = table.precision.str.split().str[0]
    costs = [cost(_spec(model), batch, name) for name in names]
    flops = [counted.total_flops / batch * rate / 1e9 for counted, rate in zip(costs, table["img/s"])]
    intensity = [counted.intensity for counted in costs]
    return pd.DataFrame({"label": table.case, "precision": names, "intensity": intensity, "gflops": flops})


def models(run: RecordedRun) -> pd.DataFrame:
    """Every model in every runtime and precision, each at the batch with the highest throughput.

    Columns: ``model``, ``case``, ``runtime``, ``precision``, ``batch``, ``img/s`` (compute), ``share of limit``,
    ``end to end, img/s`` (the best of any number of streams), ``p50 ms``, ``p99 ms``, ``busy cores`` and
    ``recorded``.
    """
    frame, alone = run.frame(), _alone(run)
    best = alone.loc[alone.groupby("case", sort=False).compute_images_per_second.idxmax()]
    whole = frame.groupby("case").images_per_second.max()
    return pd.DataFrame(
        {
            "model": best.model,
            "case": best.case,
            "runtime": best.runtime,
            "precision": best.label,
            "batch": best.batch,
            "img/s": best.compute_images_per_second,
            **_speeds(run, best.assign(images_per_second=best.case.map(whole))),
        }
    ).reset_index(drop=True)


def memory(run: RecordedRun) -> pd.DataFrame:
    """Memory of the device and size of the engine, one caller: a row for each case, a column for each batch.

    Columns: ``model``, ``case``, ``runtime``, ``precision``, ``profiles``, ``engine MiB`` (NaN for a baseline), the
    batches (MiB) and ``recorded``.
    """
    frame = _alone(run)
    wide = frame.pivot(index="case", columns="batch", values="memory_mib")
    first = frame.drop_duplicates("case").set_index("case")
    known = first[["model", "runtime", "label", "profiles"]].rename(columns={"label": "precision"})
    known["engine MiB"] = first.engine_mib.where(first.engine_mib > 0)
    table = known.join(wide).join(first.recorded).reset_index()
    return table[["model", "case", *[column for column in table if column not in ("model", "case")]]]


def streams(run: RecordedRun, model: str = "ViT-B/32") -> pd.DataFrame:
    """Callers at the same time, from the caller's array to the logits in the caller's memory, beside compute alone.

    Columns: ``case``, ``input``, ``batch``, ``streams``, ``end to end, img/s``, ``compute, img/s``, ``share`` (end
    to end over the best compute of the case), ``p50 ms``, ``p99 ms``, ``memory MiB`` and ``recorded``.
    """
    frame = run.frame()
    best = frame.groupby("case").compute_images_per_second.max()
    rows = frame[(frame.model == model) & (frame.streams > 0)]
    return pd.DataFrame(
        {
            "case": rows.case,
            "input": rows.input,
            "batch": rows.batch,
            "streams": rows.streams,
            "end to end, img/s": rows.images_per_second,
            "compute, img/s": rows.compute_images_per_second,
            "share": rows.images_per_second / rows.case.map(best),
            "p50 ms": rows.p50_ms,
            "p99 ms": rows.p99_ms,
            "memory MiB": rows.memory_mib,
            "recorded": rows.recorded,
        }
    ).reset_index(drop=True)


def profiles(run: RecordedRun, exact: str = "b32-fp16", dynamic: str = "b32-fp16-range") -> pd.DataFrame:
    """The price of dynamic shapes: an engine with profiles of single batches beside one with a range alone.

    Columns: ``batch``, ``a profile a batch, img/s``, ``one range, img/s`` and ``gain`` (their ratio less 1). The
    build times are in ``RecordedRun.builds``.
    """
    rates = _alone(run).set_index(["case", "batch"]).compute_images_per_second
    table = pd.DataFrame({"a profile a batch, img/s": rates[exact], "one range, img/s": rates[dynamic]})
    table["gain"] = table["a profile a batch, img/s"] / table["one range, img/s"] - 1
    return table.rename_axis("batch").reset_index()


def kernel_times(run: RecordedRun, cases: Sequence[str] = ("b32-fp16", "b32-int8")) -> pd.DataFrame:
    """Where the time of a call goes on the GPU, by role and kind of kernel, several engines side by side.

    Columns: ``role``, ``kind`` (``product``, ``attention``, ``copy`` or ``other``), and for each case ``CASE, ms``;
    the roles of all blocks are summed, and the longest of the last case stand first. The places of kernels between
    the products are a guess, see ``performance.kernel_places``.
    """
    found = {}
    for case in cases:
        rows = [(one.place.role, _kind(one), 1e3 * one.kernel.seconds) for one in run.case(case).placed()]
        frame = pd.DataFrame(rows, columns=["role", "kind", "ms"])
        found[f"{case}, ms"] = frame.groupby(["role", "kind"]).ms.sum()
    table = pd.DataFrame(found).fillna(0.0)
    return table.sort_values(list(found)[-1], ascending=False).reset_index()


def _kind(one: PlacedKernel) -> str:
    if one.kernel.is_attention:
        return "attention"
    return "product" if one.kernel.is_product else "copy" if one.kernel.is_move else "other"


def accuracy(run: RecordedRun) -> pd.DataFrame:
    """A model as it was executed, on labelled images.

    Columns: ``case``, ``precision``, ``how`` (executed or emulated), ``images``, ``top-1``, ``from`` and ``to``
    (Wilson's 95 % interval), ``points lost`` against the run's own FP32 on the same images with Tango's 95 %
    interval ``at least`` and ``at most`` (NaN where the run has no FP32), and ``recorded``.
    """
    found = {case.name: case.measurements[0] for case in run.cases.values() if _labelled(case)}
    plain = next((m for m in found.values() if m.recipe.precision == "fp32"), None)
    rows = []
    for name, m in found.items():
        lost = _points_lost(plain, m) if plain else (math.nan,) * 3
        rows.append(
            (name, precision_of(m.recipe), m.execution, m.images, m.top1, *m.top1_interval, *lost, run.label)
        )
    columns = ["case", "precision", "how", "images", "top-1", "from", "to", "points lost", "at least", "at most"]
    return pd.DataFrame(rows, columns=[*columns, "recorded"])


def against_estimates(run: RecordedRun, cases: Collection[str] | None = None) -> pd.DataFrame:
    """The likely ranges of ``wb.expected`` held against what was recorded, at every batch.

    The ranges rest on measured throughputs at batches of 32 and more; smaller ones show how far they carry.

    Columns: ``case``, ``model``, ``precision``, ``batch``, ``recorded, img/s``, ``likely from`` and ``to``,
    ``limit`` and ``inside``; of all cases, or of ``cases`` alone.
    """
    rows = []
    for row in _alone(run).to_dict("records"):
        if row["model"] == SHIPPED or row["case"] not in (run.cases if cases is None else cases):
            continue
        estimate, rate = _estimate(run.machine, row), row["compute_images_per_second"]
        low, high = estimate.likely_images_per_second
        held = (rate, low, high, estimate.limit_images_per_second, low <= rate <= high)
        rows.append((row["case"], row["model"], row["label"], row["batch"], *held))
    columns = ["case", "model", "precision", "batch", "recorded, img/s", "likely from", "to", "limit", "inside"]
    return pd.DataFrame(rows, columns=columns)


def batch_guide(
    run: RecordedRun,
    case: str = "b32-fp16",
    cards: Sequence[str] = ("T4", "V100"),
    batches: Sequence[int] = (1, 8, 32, 128, 256),
) -> pd.DataFrame:
    """Throughput over the batch on other cards: predicted, beside how well the recorded run was predicted.

    Args:
        run: the recorded run.
        case: the case whose model and precision are predicted.
        cards: names of cards with published peaks.
        batches: images per call.

    Returns:
        A row for each card and batch: ``card``, ``batch``, ``likely from``, ``to``, ``limit`` (img/s), ``recorded /
        likely from`` and ``recorded / to``: the same prediction on the recorded machine, NaN where it has none.
    """
    first = run.case(case).measurements[0]
    held = against_estimates(run, (case,)).set_index("batch")
    rows = []
    for card in cards:
        for batch in batches:
            estimate = expected(_spec(first.model), card, first.recipe.precision, batch)
            low, high = estimate.likely_images_per_second
            known = held.loc[batch] if batch in held.index else dict.fromkeys(held.columns, math.nan)
            rate = known["recorded, img/s"]
            shares = rate / known["likely from"], rate / known["to"]
            rows.append((card, batch, low, high, estimate.limit_images_per_second, *shares))
    columns = ["card", "batch", "likely from", "to", "limit", "recorded / likely from", "recorded / to"]
    return pd.DataFrame(rows, columns=columns)


def _alone(run: RecordedRun) -> pd.DataFrame:
    """The calls of one caller, timed one by one."""
    frame = run.frame()
    return frame[frame.streams == 0]


def _spec(model: str) -> ModelSpec:
    return model_spec(model.removeprefix("ViT-"))


def _estimate(card: str, row: Mapping[str, Any]) -> Expectation:
    return expected(_spec(row["model"]), card, row["precision"], row["batch"])


def _share(run: RecordedRun, row: Mapping[str, Any]) -> float:
    """A row's throughput as a share of the card's limit; NaN for a model that is no published size."""
    if row["model"] == SHIPPED:
        return math.nan
    return _estimate(run.machine, row).share_of_limit(row["compute_images_per_second"])


def _labelled(case: RecordedCase) -> bool:
    return bool(case.measurements and case.measurements[0].labels)


def _points_lost(plain, other) -> tuple[float, float, float]:
    """Percentage points lost against FP32 on the same images, and Tango's 95 % interval."""
    right = [np.asarray(m.predictions) == np.asarray(m.labels) for m in (plain, other)]
    lost, won = discordant_pairs(*right)
    low, high = paired_interval(lost, won, len(right[0]))
    return 100 * (lost - won) / len(right[0]), 100 * low, 100 * high
