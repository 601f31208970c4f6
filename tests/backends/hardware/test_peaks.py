"""Published peaks: dense rates with a source for every card that is promised, checked by arithmetic."""

from __future__ import annotations

import pytest

from workbench.backends.hardware.cards import capability
from workbench.backends.hardware.peaks import PEAKS, peak_of
from workbench.dtypes import PRODUCT_TYPES, TYPES
from workbench.errors import WorkbenchError


def test_the_promised_cards_are_there_with_a_source():
    promised = {"T4", "V100", "A100", "L4", "H100", "H200", "RTX 4090", "RTX 5090", "RTX PRO 6000", "B200", "Orin"}
    assert set(PEAKS) >= promised
    assert all("NVIDIA" in peak.source and len(peak.source) > 25 for peak in PEAKS.values())


@pytest.mark.parametrize("card", PEAKS)
def test_a_card_has_the_types_of_its_architecture_and_no_sparse_rates(card):
    peak, sm = PEAKS[card], capability(card)
    assert set(peak.flops) - {"tf32"} == {kind for kind in PRODUCT_TYPES if TYPES[kind].runs_on(sm)}
    if "int8" in peak.flops:  # tensor cores do twice as many 8-bit operations, in no dense mode more
        assert peak.flops["int8"] == pytest.approx(2 * peak.flops["fp16"], rel=0.01)
    if "fp4" in peak.flops:
        assert peak.flops["fp4"] == pytest.approx(2 * peak.flops["fp8"], rel=0.01)


#: FP32 cores and boost clock, from NVIDIA's product pages: a core does two operations a clock.
CORES = {
    "T4": (2560, 1.590e9),
    "V100": (5120, 1.530e9),
    "A100": (6912, 1.410e9),
    "L4": (7424, 2.040e9),
    "H100": (16896, 1.980e9),
    "RTX 3090": (10496, 1.695e9),
    "RTX 4090": (16384, 2.520e9),
    "RTX 5090": (21760, 2.407e9),
    "RTX PRO 6000": (24064, 2.617e9),
    "B200": (18944, 1.965e9),
    "Orin": (2048, 1.300e9),
}
#: Width of the memory bus in bits and data rate per pin.
MEMORY = {
    "T4": (256, 10e9),
    "L4": (192, 12.5e9),
    "RTX 3090": (384, 19.5e9),
    "RTX 4090": (384, 21e9),
    "RTX 5090": (512, 28e9),
    "RTX PRO 6000": (512, 28e9),
    "Orin": (256, 6.4e9),
}
#: Tensor cores, and FP16 multiply-accumulates that each does in a clock (GA102 and TU102 whitepapers).
TENSOR_CORES = {"T4": (320, 64), "V100": (640, 64), "A100": (432, 256), "RTX 3090": (328, 128)}


def test_fp32_is_two_operations_per_core_and_clock():
    expected = {card: 2 * cores * clock for card, (cores, clock) in CORES.items()}
    assert {card: PEAKS[card].flops["fp32"] for card in CORES} == pytest.approx(expected, rel=0.02)


def test_bandwidth_is_bus_width_times_data_rate():
    expected = {card: bits / 8 * rate for card, (bits, rate) in MEMORY.items()}
    assert {card: PEAKS[card].bandwidth for card in MEMORY} == pytest.approx(expected, rel=0.01)


def test_fp16_is_what_the_tensor_cores_do_in_a_clock():
    expected = {card: 2 * cores * macs * CORES[card][1] for card, (cores, macs) in TENSOR_CORES.items()}
    assert {card: PEAKS[card].flops["fp16"] for card in TENSOR_CORES} == pytest.approx(expected, rel=0.01)


def test_a_card_is_found_by_what_nvidia_smi_prints_and_fp32_counts_tf32_where_it_has_that():
    rates = {"Tesla T4": 8.1e12, "NVIDIA H200": 494.5e12, "NVIDIA A100-SXM4-80GB": 156e12, "Jetson AGX Orin": None}
    found = {name: peak_of(name) for name in rates}
    assert [peak.card for peak in found.values()] == ["T4", "H200", "A100", "Orin"]
    assert all(found[name].of("fp32") == rate for name, rate in rates.items() if rate)


def test_what_is_not_listed_is_refused_with_what_is():
    with pytest.raises(WorkbenchError, match="RTX 4090"):
        peak_of("A10")
    with pytest.raises(WorkbenchError, match="fp32, fp16"):
        peak_of("V100").of("int8")
