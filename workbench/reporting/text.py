"""What ``workbench inspect`` and ``workbench profile`` print."""

from __future__ import annotations

import dataclasses
import json
import shutil
import textwrap
from pathlib import Path

import pandas as pd

from ..errors import refuse_unless
from ..graphs.analysis.inspect import Inspection
from ..performance.engine_meter import EngineMeter
from ..performance.onnx_profile import CALLS, FileProfile, profile_onnx
from ..performance.parts import AGREES, Split
from ..performance.roofline import measure_roof
from ..progress import Progress
from ..records import ModelSpec

#: Resolutions of a sweep where none are named, in patches along an edge: 65 to 1,025 tokens.
PATCHES = (8, 12, 16, 20, 24, 28, 32)
#: Longer lines are hard to read.
WIDEST = 116


def tell_inspection(made: Inspection, as_json: bool = False, width: int | None = None) -> str:
    """An inspection as text: the blocks, or the operators of what has none, then each hazard once.

    Args:
        made: from ``inspect``.
        as_json: all tables for a program instead.
        width: columns of the screen; None asks the terminal.
    """
    if as_json:
        tables = {name: _records(getattr(made, name)) for name in ("nodes", "blocks", "findings")}
        return json.dumps({"path": str(made.path), "asked": list(made.asked), **tables}, indent=1)
    width = width or _width()
    of = f"{_count(made.blocks, 'block')} of a ViT" if len(made.blocks) else "no block of a ViT"
    asked = f"Asked whether they take it: {', '.join(made.asked)}." if made.asked else "No runtime was asked."
    lines = [f"{made.path.name}: {_count(made.nodes, 'node')}, {of}. {asked}"]
    lines = [
        textwrap.fill(lines[0], width),
        "",
        _screen(_blocks(made) if len(made.blocks) else _operators(made), width),
    ]
    lines += ["", f"{_count(made.findings, 'finding')}" + (":" if len(made.findings) else ".")]
    for (hazard, severity, mitigation), rows in made.findings.groupby(
        ["hazard", "severity", "mitigation"], sort=False
    ):
        places = ", ".join(rows["where"].head(4)) + (f" and {len(rows) - 4} more" if len(rows) > 4 else "")
        told = {"where": places, "why": rows.help.iloc[0], "remedy": mitigation}
        lines += ["", f"{severity}: {hazard}", *(_item(name, text, width) for name, text in told.items())]
    return "\n".join(lines)


def _width() -> int:
    return min(WIDEST, shutil.get_terminal_size((80, 24)).columns)


def _count(frame: pd.DataFrame, what: str) -> str:
    return f"{len(frame)} {what}" + ("" if len(frame) == 1 else "s")


def _item(name: str, text: str, width: int) -> str:
    """``why:`` with its text behind it, and nothing below the name."""
    begin = f"  {name + ':':<8}"
    return textwrap.fill(
        text,
        width,
        initial_indent=begin,
        subsequent_indent=" " * len(begin),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _blocks(made: Inspection) -> pd.DataFrame:
    """Blocks that are alike, one after the other, in one row; columns that say nothing are left out."""
    frame = pd.DataFrame(
        {
            "nodes": made.blocks.nodes,
            "params": made.blocks.parameters.map(_short),
            "MAC": made.blocks.macs.map(_short),
            "products": made.blocks["products"],
            "heads": [
                "" if pd.isna(heads) else f"{heads:.0f}" if pd.isna(size) else f"{heads:.0f}×{size:.0f}"
                for heads, size in zip(made.blocks.heads, made.blocks.head_size)
            ],
            "tokens": ["" if pd.isna(tokens) else f"{tokens:.0f}" for tokens in made.blocks.tokens],
            "attention": made.blocks.attention.fillna(""),
            "casts": made.blocks.casts,
            "Q/DQ": made.blocks.quantizers,
            "found": made.blocks.findings,
        }
    )
    run = (frame != frame.shift()).any(axis=1).cumsum()
    names = made.blocks.block.groupby(run).agg(lambda own: "–".join(dict.fromkeys((own.iloc[0], own.iloc[-1]))))
    frame = frame.groupby(run).first()
    frame.insert(0, "blocks", names)
    return frame.loc[:, [not column.isin([0, ""]).all() for _, column in frame.items()]]


def _operators(made: Inspection) -> pd.DataFrame:
    groups = made.nodes.groupby("type").agg(
        nodes=("name", "size"), params=("parameters", "sum"), MAC=("macs", _sum)
    )
    groups = groups.sort_values(["MAC", "nodes"], ascending=False, na_position="first").reset_index()
    counts = {name: groups[name].map(_short) for name in ("params", "MAC")}
    return groups.assign(**counts).rename(columns={"type": "operator"})


def _sum(macs: pd.Series):
    return macs.sum(skipna=False)


def _short(count) -> str:
    """``7.09 M`` for 7,087,872; nothing for nothing, a question mark for what is not known."""
    if pd.isna(count):
        return "?"
    for power, letter in ((9, "G"), (6, "M"), (3, "k")):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {letter}"
    return str(count) if count else ""


def _screen(frame: pd.DataFrame, width: int) -> str:
    """A table, words to the left and numbers to the right, its columns closer together on a narrow screen."""
    columns = [[str(name), *map(str, column)] for name, column in frame.items()]
    wide = [max(map(len, column)) for column in columns]
    gap = "  " if sum(wide) + 2 * len(wide) <= width else " "
    left = {"blocks", "operator", "products", "attention"}
    cells = [
        [text.ljust(n) if column[0] in left else text.rjust(n) for text in column]
        for column, n in zip(columns, wide)
    ]
    return "\n".join(gap.join(row).rstrip() for row in zip(*cells))


def _records(frame: pd.DataFrame) -> list[dict]:
    return json.loads(frame.to_json(orient="records"))


def tell_profile(asked, progress: Progress) -> str:
    """Profile what the command line names, and put it in words.

    Raises:
        WorkbenchError: the model is no file and no size, or cannot be profiled.
    """
    refuse_unless(
        asked.batch > 0,
        "There is no call to time",
        why=f"the batch is {asked.batch}",
        remedy="give --batch 1 or more",
    )
    if Path(asked.model).suffix.lower() == ".onnx":
        refuse_unless(
            not asked.sizes and not asked.depth,
            "An ONNX file is timed as it is",
            why="its resolution and its blocks are fixed in it, so that --sizes and --depth mean nothing",
            remedy="leave them out, or name a checkpoint or a size such as S/16",
        )
        made = profile_onnx(asked.model, asked.workspace, asked.backend or "onnxruntime", asked.batch)
        return _tell_file(asked, made)
    return _tell_sweep(asked, progress)


def _tell_file(asked, made: FileProfile) -> str:
    if asked.json:
        return json.dumps({"parts": made.split.rows(), "roles": _records(made.roles)}, indent=1)
    per_role = made.roles.groupby("role", sort=False, as_index=False)[["ms", "share"]].sum()
    whole_s = made.split.whole_s
    lines = [f"{Path(asked.model).name} on {asked.backend or 'onnxruntime'}, batch {made.batch}:"]
    lines += [f"One call takes {1e3 * whole_s:.4g} ms, the median of {CALLS}; {_sum_of(made.split)}"]
    if made.macs:
        lines += [f"Its products are {_short(made.macs)} MAC, {2 * made.macs / whole_s / 1e9:,.3g} GFLOP/s."]
    if asked.backend in (None, "onnxruntime"):
        roof = measure_roof(0.5)
        lines += [f"A large product of matrices reaches {roof.peak_flops / 1e9:,.3g} GFLOP/s on {roof.label}."]
    head = "\n".join(textwrap.fill(line, _width()) for line in lines)
    roles = "The layers by role, and their share of the layers' sum:\n" + _table(per_role)
    return "\n\n".join((head, _table(pd.DataFrame(made.split.rows())), roles))


def _tell_sweep(asked, progress: Progress) -> str:
    from ..models.meter import JaxMeter
    from ..performance.attention_profile import profile_attention
    from ..performance.cost import attention_overtakes_mlp

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
            f"{spec.name}, depth {spec.depth}, batch {asked.batch} on {backend}: fastest call in ms, by part",
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
