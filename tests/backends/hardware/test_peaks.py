"""Published peaks: dense numbers, with a source, for every card that is promised."""

from __future__ import annotations

import pytest

from workbench.backends.hardware.cards import capability
from workbench.backends.hardware.peaks import PEAKS, peak_of
from workbench.dtypes import PRODUCT_TYPES, TYPES
from workbench.errors import WorkbenchError


def test_the_promised_cards_are_there_with_a_source():
    promised = {"T4", "V100", "A100", "L4", "H100", "H200", "RTX 4090", "RTX 5090", "Orin"}
    assert set(PEAKS) >= promised
    assert all("NVIDIA" in peak.source and len(peak.source) > 25 for peak in PEAKS.values())


@pytest.mark.parametrize("card", PEAKS)
def test_a_card_has_the_types_of_its_architecture_and_no_sparse_numbers(card):
    peak, sm = PEAKS[card], capability(card)
    assert {kind for kind in peak.flops if kind in TYPES} == {
        name for name in PRODUCT_TYPES if TYPES[name].runs_on(sm)
    }
    if "int8" in peak.flops:  # tensor cores do twice as many 8-bit operations, in no dense mode more
        assert peak.flops["int8"] == pytest.approx(2 * peak.flops["fp16"], rel=0.01)


#: FP32 cores · 2 · boost clock, from NVIDIA's product pages: what the fp32 column must be.
CORES = {
    "T4": (2560, 1.590e9),
    "V100": (5120, 1.530e9),
    "A100": (6912, 1.410e9),
    "L4": (7424, 2.040e9),
    "H100": (16896, 1.980e9),
    "RTX 3090": (10496, 1.695e9),
    "RTX 4090": (16384, 2.520e9),
    "RTX 5090": (21760, 2.407e9),
    "Orin": (2048, 1.300e9),
}


@pytest.mark.parametrize("card", CORES)
def test_fp32_is_two_operations_per_core_and_clock(card):
    cores, clock = CORES[card]
    assert PEAKS[card].flops["fp32"] == pytest.approx(2 * cores * clock, rel=0.02)


#: Bus width in bits times data rate per pin.
MEMORY = {
    "T4": (256, 10e9),
    "L4": (192, 12.5e9),
    "RTX 3090": (384, 19.5e9),
    "RTX 4090": (384, 21e9),
    "RTX 5090": (512, 28e9),
    "Orin": (256, 6.4e9),
}


@pytest.mark.parametrize("card", MEMORY)
def test_bandwidth_is_bus_width_times_data_rate(card):
    bits, rate = MEMORY[card]
    assert PEAKS[card].bandwidth == pytest.approx(bits / 8 * rate, rel=0.01)


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("Jetson AGX Orin", "Orin"),
    ],
)
def test_a_card_is_found_by_what_nvidia_smi_prints(name, card):
    assert peak_of(name).card == card


def test_fp32_counts_tf32_where_the_tensor_cores_have_it():
    assert peak_of("H200").of("fp32") == 494.5e12
    assert peak_of("T4").of("fp32") == 8.1e12


def test_what_is_not_listed_is_refused_with_what_is():
    with pytest.raises(WorkbenchError, match="RTX 4090"):
        peak_of("A10")
    with pytest.raises(WorkbenchError, match="fp32, fp16"):
        peak_of("V100").of("int8")
