"""What the clean-up did to an exported graph, operator by operator: which computed shapes only, which the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import onnx_ir as ir
import pandas as pd

from ...records import Graph
from .. import model_file


def cleaned_operators(traced: Graph | Path, cleaned: Graph) -> pd.DataFrame:
    """Count the operators of a graph before and after the clean-up.

    A node computes shapes where all its outputs are whole numbers: in a ViT, pixels and all that is made of them
    are floating-point numbers, and only lengths and indices are whole.

    Args:
        traced: what ``trace_onnx`` made, or the path of the file that was imported.
        cleaned: what ``export_onnx`` or ``import_onnx`` made of the same model.

    Returns:
        ``operator``, ``traced``, ``on shapes`` (how many of these computed shapes only) and ``cleaned``; the most
        frequent as traced first.

    Raises:
        WorkbenchError: a file is no ONNX model.
    """
    before = list(model_file.load(traced if isinstance(traced, Path) else traced.path).graph)
    counts = Counter(node.op_type for node in before)
    shapes = Counter(node.op_type for node in before if _on_shapes(node))
    after = Counter(node.op_type for node in model_file.load(cleaned.path).graph)
    rows = [(name, counts[name], shapes[name], after[name]) for name in _ordered(counts, after)]
    return pd.DataFrame(rows, columns=["operator", "traced", "on shapes", "cleaned"])


def became_others(operators: pd.DataFrame) -> list[str]:
    """Operators that computed more than shapes and of which none is left: the clean-up wrote them as others."""
    gone = operators[(operators["cleaned"] == 0) & (operators["traced"] > operators["on shapes"])]
    return list(gone["operator"])


def _on_shapes(node: ir.Node) -> bool:
    return all(value.dtype is not None and value.dtype.is_integer() for value in node.outputs)


def _ordered(before: Counter, after: Counter) -> Iterable[str]:
    return sorted({*before, *after}, key=lambda name: (-before[name], -after[name], name))
