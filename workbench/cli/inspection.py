"""What ``workbench inspect`` prints."""

from __future__ import annotations

import json
import textwrap

import pandas as pd

from ..graphs.analysis.inspect import Inspection
from .text import item, json_records, screen_width, short_count, table

#: Columns of words.
LEFT = frozenset({"blocks", "operator", "products", "attention"})


def inspection_json(made: Inspection) -> str:
    """All tables of an inspection."""
    tables = {name: json_records(getattr(made, name)) for name in ("nodes", "blocks", "findings")}
    return json.dumps({"path": str(made.path), "asked": list(made.asked), **tables}, indent=1)


def inspection_text(made: Inspection) -> str:
    """The blocks (the operators, where the model has no blocks), then each hazard once."""
    width = screen_width()
    of = f"{_count(made.blocks, 'block')} of a ViT" if len(made.blocks) else "no block of a ViT"
    asked = f"Asked whether they take it: {', '.join(made.asked)}." if made.asked else "No runtime was asked."
    summary = f"{made.path.name}: {_count(made.nodes, 'node')}, {of}. {asked}"
    rows = _blocks(made) if len(made.blocks) else _operators(made)
    count = _count(made.findings, "finding") + (":" if len(made.findings) else ".")
    return "\n".join(
        [textwrap.fill(summary, width), "", table(rows, width, LEFT), "", count, *_findings(made, width)]
    )


def _count(frame: pd.DataFrame, what: str) -> str:
    return f"{len(frame)} {what}" + ("" if len(frame) == 1 else "s")


def _findings(made: Inspection, width: int) -> list[str]:
    lines = []
    for _, rows in made.findings.groupby(["hazard", "severity", "mitigation"], sort=False):
        first = rows.iloc[0]
        places = ", ".join(rows["where"].head(4)) + (f" and {len(rows) - 4} more" if len(rows) > 4 else "")
        lines += ["", f"{first.severity}: {first.hazard}", item("where", places, width)]
        lines += [item("why", first.help, width), item("remedy", first.mitigation, width)]
    return lines


def _blocks(made: Inspection) -> pd.DataFrame:
    """Neighbouring blocks that are alike in one row; columns that are 0 or empty everywhere are left out."""
    blocks = made.blocks
    frame = pd.DataFrame(
        {
            "nodes": blocks.nodes,
            "params": blocks.parameters.map(short_count),
            "MAC": blocks.macs.map(short_count),
            "products": blocks["products"],
            "heads": [_heads(*each) for each in zip(blocks.heads, blocks.head_size)],
            "tokens": ["" if pd.isna(tokens) else f"{tokens:.0f}" for tokens in blocks.tokens],
            "attention": blocks.attention.fillna(""),
            "casts": blocks.casts,
            "Q/DQ": blocks.quantizers,
            "found": blocks.findings,
        }
    )
    run = (frame != frame.shift()).any(axis=1).cumsum()
    names = blocks.block.groupby(run).agg(lambda own: "–".join(dict.fromkeys((own.iloc[0], own.iloc[-1]))))
    frame = frame.groupby(run).first()
    frame.insert(0, "blocks", names)
    return frame.loc[:, [not column.isin([0, ""]).all() for _, column in frame.items()]]


def _heads(heads: float, size: float) -> str:
    if pd.isna(heads):
        return ""
    return f"{heads:.0f}" if pd.isna(size) else f"{heads:.0f}×{size:.0f}"


def _operators(made: Inspection) -> pd.DataFrame:
    """The operators by their multiply-accumulates; those with an unknown number come first."""
    groups = made.nodes.groupby("type").agg(
        nodes=("name", "size"), params=("parameters", "sum"), MAC=("macs", lambda macs: macs.sum(skipna=False))
    )
    groups = groups.sort_values(["MAC", "nodes"], ascending=False, na_position="first").reset_index()
    counts = {name: groups[name].map(short_count) for name in ("params", "MAC")}
    return groups.assign(**counts).rename(columns={"type": "operator"})
