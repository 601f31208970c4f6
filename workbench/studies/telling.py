"""What ``workbench inspect`` and ``workbench profile`` print."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pandas as pd

from ..backends.base import Progress
from ..graphs.inspect import Inspection
from ..measuring.parts import AGREES, Split
from ..records import ModelSpec
from .profiles import EngineMeter, FileProfile, profile_onnx

#: Resolutions of a sweep where none are named, in patches along an edge: 65 to 1,025 tokens.
PATCHES = (8, 12, 16, 20, 24, 28, 32)


def tell_inspection(made: Inspection, as_json: bool = False) -> str:
    """An inspection as text: the blocks, then each hazard once with the places that have it."""
    if as_json:
        tables = {name: _records(getattr(made, name)) for name in ("nodes", "blocks", "findings")}
        return json.dumps({"path": str(made.path), "asked": list(made.asked), **tables}, indent=1)
    asked = ", ".join(made.asked) or "none"
    lines = [f"{made.path}: {len(made.nodes)} nodes, {len(made.blocks)} blocks of a ViT. Runtimes asked: {asked}."]
    if len(made.blocks):
        lines += ["", made.blocks.to_string(index=False)]
    lines += ["", f"{len(made.findings)} findings" + (":" if len(made.findings) else ".")]
    for (hazard, severity, mitigation), rows in made.findings.groupby(
        ["hazard", "severity", "mitigation"], sort=False
    ):
        places = ", ".join(rows["where"].head(4)) + (f" and {len(rows) - 4} more" if len(rows) > 4 else "")
        lines += [
            f"  {severity}: {hazard} at {places}",
            f"    why: {rows.help.iloc[0]}",
            f"    remedy: {mitigation}",
        ]
    return "\n".join(lines)


def _records(frame: pd.DataFrame) -> list[dict]:
    return json.loads(frame.to_json(orient="records"))


def tell_profile(asked, progress: Progress) -> str:
    """Profile what the command line names, and put it in words.

    Raises:
        WorkbenchError: the model is no file and no size, or cannot be profiled.
    """
    if str(asked.model).endswith(".onnx"):
        made = profile_onnx(asked.model, asked.workspace, asked.backend or "onnxruntime", asked.batch)
        return _tell_file(asked, made)
    return _tell_sweep(asked, progress)


def _tell_file(asked, made: FileProfile) -> str:
    if asked.json:
        return json.dumps({"parts": made.split.rows(), "roles": _records(made.roles)}, indent=1)
    per_role = made.roles.groupby("role", sort=False, as_index=False)[["ms", "share"]].sum()
    whole = f"One call of {asked.batch} takes {1e3 * made.split.whole_s:.4g} ms; {_sum_of(made.split)}"
    return "\n\n".join((whole, _table(pd.DataFrame(made.split.rows())), _table(per_role)))


def _tell_sweep(asked, progress: Progress) -> str:
    from ..models.cost import attention_overtakes_mlp
    from ..models.meter import JaxMeter
    from ..models.profiling import profile_attention

    spec = _spec(asked)
    backend = asked.backend or "jax"
    meter = JaxMeter(asked.batch) if backend == "jax" else EngineMeter(backend, asked.workspace, asked.batch)
    sizes = asked.sizes or [patches * spec.patch for patches in PATCHES]
    made = profile_attention(spec, sizes, meter=meter, source=backend, progress=progress)
    frame = made.frame()
    if asked.json:
        rows = {"measured": _records(frame[frame.kind == "measured"]), "held_back": _records(made.extrapolation())}
        return json.dumps({"verdict": made.verdict(), **rows}, indent=1)
    measured = frame[frame.kind == "measured"]
    table = measured.pivot(index=["image_size", "tokens"], columns="part", values="ms").reset_index()
    table["difference"] = table.whole - table[["attention", "mlp", "rest"]].sum(axis=1)
    counted = attention_overtakes_mlp(spec)
    return "\n\n".join(
        (
            f"{spec.name}, {spec.depth} blocks, batch {asked.batch} on {backend}: fastest call in ms, by part",
            table.round(3).to_string(index=False),
            f"Curves without the {made.held_back} pixels, against what was measured there:",
            made.extrapolation().round(3).to_string(index=False),
            made.verdict(),
            f"By multiply-accumulates alone: {counted.tokens:,.0f} tokens, {counted.image_size:,.0f} pixels.",
        )
    )


def _spec(asked) -> ModelSpec:
    """The shape in a checkpoint, or of a size in the table."""
    if Path(asked.model).suffix == ".npz":
        from ..models.checkpoint import load_checkpoint

        spec, _ = load_checkpoint(asked.model)
    else:
        from ..models.vit import model_spec

        spec = model_spec(asked.model)
    return dataclasses.replace(spec, depth=asked.depth) if asked.depth else spec


def _sum_of(split: Split) -> str:
    if split.adds_up:
        return f"its layers add up to it within {AGREES:.0%}."
    parts_ms = 1e3 * (split.whole_s - split.difference_s)
    return (
        f"its layers add up to {parts_ms:.4g} ms: timing each of them costs time, and there is time between them."
    )


def _table(frame: pd.DataFrame) -> str:
    return frame.assign(ms=frame.ms.round(4), share=(100 * frame.share).map("{:.1f} %".format)).to_string(
        index=False
    )
