"""The published peaks of GPUs: dense products, without sparsity, at the boost clock. The list is ``peaks.json``.

Where a data sheet gives a rate "with sparsity", the list has half of it. ``fp32`` is the rate of the CUDA cores.
``tf32`` is the rate of the tensor cores on float32 data, which they round to ten bits of mantissa; TensorRT and JAX
use it by default. Some cards accumulate FP16 or FP8 products in 16 bits twice as fast as in 32 bits: the list has
the faster rate, because these numbers are upper bounds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple

from ...errors import WorkbenchError
from .cards import plain_name


class Peak(NamedTuple):
    """A card's published limits.

    Attributes:
        card: its name.
        flops: type -> FLOP/s, or operations/s for int8; products in blocks with scales have the rate of their type.
        bandwidth: of its memory, bytes/s.
        source: the data sheet.
    """

    card: str
    flops: Mapping[str, float]
    bandwidth: float
    source: str

    def of(self, precision: str) -> float:
        """FLOP/s of products in a recipe's precision; fp32 counts TF32 where the card has it.

        Raises:
            WorkbenchError: the card publishes no rate for this type.
        """
        name = "tf32" if precision == "fp32" and "tf32" in self.flops else precision
        if name not in self.flops:
            raise WorkbenchError(
                f"{self.card} has no published peak for {precision}",
                why=f"its sheet gives {', '.join(self.flops)}",
                remedy="choose one of these types, or another card",
            )
        return self.flops[name]


def _peak(row: Mapping) -> Peak:
    """A row of ``peaks.json``."""
    flops = {kind: 1e12 * tflops for kind, tflops in row["tflops"].items()}
    return Peak(row["card"], flops, 1e9 * row["gb_per_s"], row["source"])


_ROWS = json.loads(files("workbench.backends.hardware").joinpath("peaks.json").read_text(encoding="utf-8"))["peaks"]
#: Card -> its published limits.
PEAKS: Mapping[str, Peak] = {row["card"]: _peak(row) for row in _ROWS}
_BY_NAME = {plain_name(name): PEAKS[row["card"]] for row in _ROWS for name in (row["card"], *row.get("also", ()))}


def peak_of(card: str) -> Peak:
    """The published limits of a card by its name, as nvidia-smi prints it or short.

    Raises:
        WorkbenchError: no limits are listed for this card.
    """
    name = plain_name(card)
    if name not in _BY_NAME:
        raise WorkbenchError(
            f"No published peak is listed for the card {card!r}",
            why=f"listed are {', '.join(PEAKS)}",
            remedy="name one of these, or add the numbers of its data sheet to backends/hardware/peaks.json",
        )
    return _BY_NAME[name]
