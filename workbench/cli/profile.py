"""What ``workbench profile`` does and prints."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..graphs.any_model import shape_of
from ..performance.engine_meter import EngineMeter
from ..performance.layers import CALLS
from ..performance.onnx_profile import FileProfile, profile_onnx
from ..performance.parts import AGREES, Split
from ..performance.roofline import measure_roof
from ..progress import Progress
from ..records import ModelSpec
from .text import json_records, screen_width, short_count

#: Resolutions where none are given, in patches along an edge: 65 to 1,025 tokens.
PATCHES = (8, 12, 16, 20, 24, 28, 32)


def file_profile(model: str, backend: str | None, batch: int, workspace: Path, as_json: bool) -> str:
    """Time the layers of an ONNX file, and show them by part and by role.

    Raises:
        WorkbenchError: the file cannot be profiled.
    """
    backend = backend or "onnxruntime"
    made = profile_onnx(model, workspace, backend, batch)
    if as_json:
        return json.dumps({"parts": made.split.rows(), "roles": json_records(made.roles)}, indent=1)
    lines = [f"{Path(model).name} on {backend}, batch {made.batch}:", *_summary(made)]
    if backend == "onnxruntime":
        roof = measure_roof(0.5)
        lines += [f"A large product of matrices reaches {roof.peak_flops / 1e9:,.3g} GFLOP/s on {roof.label}."]
    head = "\n".join(textwrap.fill(line, screen_width()) for line in lines)
    per_role = made.roles.groupby("role", sort=False, as_index=False)[["ms", "share"]].sum()
    roles = "The layers by role, and their share of the layers' sum:\n" + _shares(per_role)
    return "\n\n".join((head, _shares(pd.DataFrame(made.split.rows())), roles))


def _summary(made: FileProfile) -> list[str]:
    whole_s = made.split.whole_s
    lines = [f"One call takes {1e3 * whole_s:.4g} ms, the median of {CALLS}; {_sum_of_layers(made.split)}"]
    if made.macs:
        speed = 2 * made.macs / whole_s / 1e9
        lines += [f"Its products are {short_count(made.macs)} MAC, {speed:,.3g} GFLOP/s."]
    return lines


def _sum_of_layers(split: Split) -> str:
    if split.adds_up:
        return f"its layers add up to it within {AGREES:.0%}."
    parts_ms = 1e3 * (split.whole_s - split.difference_s)
    return (
        f"its layers add up to {parts_ms:.4g} ms: timing each of them costs time, and there is time between them."
    )


def _shares(frame: pd.DataFrame) -> str:
    shares = (100 * frame.share).map("{:.1f} %".format)
    return frame.assign(ms=frame.ms.round(4), share=shares).to_string(index=False)


def resolution_profile(
    spec: ModelSpec,
    sizes: Sequence[int] | None,
    backend: str | None,
    batch: int,
    workspace: Path,
    as_json: bool,
    progress: Progress,
) -> str:
    """Time a ViT's attention, MLP and the rest at several resolutions, and fit curves to the times.

    Args:
        spec: the shape of the model.
        sizes: edges of the image in pixels; None takes ``PATCHES``.
        backend: ``jax`` (None as well) or a backend's name.
        batch: images a call.
        workspace: where engines are kept.
        as_json: return JSON instead of text.
        progress: called while it runs.
    """
    from ..models.meter import JaxMeter
    from ..performance.attention_profile import profile_attention

    backend = backend or "jax"
    meter = JaxMeter(batch) if backend == "jax" else EngineMeter(backend, workspace, batch)
    sizes = sizes or [patches * spec.patch for patches in PATCHES]
    made = profile_attention(spec, sizes, meter=meter, source=backend, progress=progress)
    frame = made.frame()
    measured = frame[frame.kind == "measured"]
    if as_json:
        rows = {"measured": json_records(measured), "held_back": json_records(made.extrapolation())}
        return json.dumps({"verdict": made.verdict(), **rows}, indent=1)
    title = f"{spec.name}, depth {spec.depth}, batch {batch} on {backend}: fastest call in ms, by part"
    return "\n\n".join((title, _times(measured), *_curves(made, spec)))


def _times(measured: pd.DataFrame) -> str:
    table = measured.pivot(index=["image_size", "tokens"], columns="part", values="ms").reset_index()
    table["difference"] = table.whole - table[["attention", "mlp", "rest"]].sum(axis=1)
    return table.round(3).to_string(index=False)


def _curves(made, spec: ModelSpec) -> tuple[str, ...]:
    from ..performance.crossover import attention_overtakes_mlp

    counted = attention_overtakes_mlp(spec)
    return (
        f"Curves without the {made.held_back} pixels, against what was measured there:",
        made.extrapolation().round(3).to_string(index=False),
        made.verdict(),
        f"By multiply-accumulates alone: {counted.tokens:,.0f} tokens, {counted.image_size:,.0f} pixels.",
    )


def spec_of(model: str, depth: int | None, workspace: Path) -> ModelSpec:
    """The shape of a model, with fewer blocks where ``depth`` is given."""
    spec = shape_of(model, workspace)
    return dataclasses.replace(spec, depth=depth) if depth else spec
