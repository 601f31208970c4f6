"""What GPUs can do at most, as their makers publish it: dense products, no sparsity, boost clock.

Where a sheet gives numbers "with sparsity", half of them stand here. ``fp32`` is the rate of the CUDA cores;
``tf32`` is that of the tensor cores on float32 data, rounded to ten bits of mantissa on the way, which TensorRT
and JAX use by default. Where a card adds FP16 or FP8 products up in 16 bits twice as fast as in 32, the faster
rate stands here, because these numbers are used as bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ...errors import WorkbenchError
from .cards import plain_name


class Peak(NamedTuple):
    """A card's published limits: FLOP/s (or operations/s) by type, bytes/s of its memory, and where it says so."""

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


def _peak(card: str, tflops: Mapping[str, float], gb_s: float, source: str) -> Peak:
    return Peak(card, {name: value * 1e12 for name, value in tflops.items()}, gb_s * 1e9, source)


PEAKS = {
    peak.card: peak
    for peak in (
        _peak(
            "T4",
            {"fp32": 8.1, "fp16": 65, "int8": 130},
            320,
            "NVIDIA T4 Tensor Core GPU product brief PB-09256-001 and datasheet, 2019",
        ),
        _peak(
            "V100",
            {"fp32": 15.7, "fp16": 125},
            900,
            "NVIDIA V100 Tensor Core GPU datasheet, SXM2, 2020",
        ),
        _peak(
            "A100",
            {"fp32": 19.5, "tf32": 156, "fp16": 312, "bf16": 312, "int8": 624},
            2039,
            "NVIDIA A100 Tensor Core GPU datasheet, SXM4 80 GB, 2021",
        ),
        _peak(
            "L4",
            {"fp32": 30.3, "tf32": 60, "fp16": 121, "bf16": 121, "fp8": 242.5, "int8": 242.5},
            300,
            "NVIDIA L4 Tensor Core GPU datasheet, 2023; tensor rates halved, it gives them with sparsity",
        ),
        _peak(
            "H100",
            {"fp32": 67, "tf32": 494.5, "fp16": 989.5, "bf16": 989.5, "fp8": 1979, "int8": 1979},
            3350,
            "NVIDIA H100 Tensor Core GPU datasheet, SXM5, 2023; tensor rates halved, it gives them with sparsity",
        ),
        _peak(
            "H200",
            {"fp32": 67, "tf32": 494.5, "fp16": 989.5, "bf16": 989.5, "fp8": 1979, "int8": 1979},
            4800,
            "NVIDIA H200 Tensor Core GPU datasheet, SXM5, 2024; tensor rates halved, it gives them with sparsity",
        ),
        _peak(
            "RTX 3090",
            {"fp32": 35.6, "tf32": 35.6, "fp16": 142, "bf16": 71, "int8": 284},
            936,
            "NVIDIA Ampere GA102 GPU Architecture whitepaper, RTX 3090; fp16 with FP16 accumulate",
        ),
        _peak(
            "RTX 4090",
            {"fp32": 82.6, "tf32": 82.6, "fp16": 330.3, "bf16": 165.2, "fp8": 660.6, "int8": 660.6},
            1008,
            "NVIDIA Ada GPU Architecture whitepaper 2.1, appendix A; fp16 and fp8 with FP16 accumulate",
        ),
        _peak(
            "RTX 5090",
            {"fp32": 104.8, "tf32": 104.8, "fp16": 419, "bf16": 209.5, "fp8": 838, "int8": 838},
            1792,
            "NVIDIA RTX Blackwell GPU Architecture whitepaper 1.1, appendix A; fp16 and fp8 with FP16 accumulate",
        ),
        _peak(
            "Orin",
            {"fp32": 5.3, "fp16": 42.5, "bf16": 42.5, "int8": 85},
            204.8,
            "NVIDIA Jetson AGX Orin Series technical brief 1.2, 64 GB module at MAXN, the GPU without its DLA; "
            "170 sparse INT8 TOPS halved, and halved again for 16 bits",
        ),
    )
}
#: What the same card is called elsewhere, without brand and form factor.
_ALSO = {"AGX Orin": "Orin"}
_BY_NAME = {plain_name(name): peak for name, peak in PEAKS.items()}
_BY_NAME |= {plain_name(also): PEAKS[name] for also, name in _ALSO.items()}


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
            remedy="name one of these, or add the numbers of its datasheet to backends/peaks.py",
        )
    return _BY_NAME[name]
