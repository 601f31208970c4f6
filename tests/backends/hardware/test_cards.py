import pytest

from workbench.backends.hardware.cards import capability, sm_name
from workbench.errors import WorkbenchError

#: Compute capabilities from https://developer.nvidia.com/cuda-gpus; names as people and nvidia-smi write them.
KNOWN = {
    "T4": 75,
    "Tesla T4": 75,
    "NVIDIA GeForce RTX 2070 SUPER": 75,
    "NVIDIA GeForce RTX 2080 with Max-Q Design": 75,
    "NVIDIA GeForce GTX 1660 Ti": 75,
    "Quadro RTX 4000": 75,
    "NVIDIA A100-SXM4-40GB": 80,
    "NVIDIA A10": 86,
    "NVIDIA RTX A6000": 86,
    "NVIDIA GeForce RTX 3070 Ti Laptop GPU": 86,
    "RTX3090": 86,
    "NVIDIA Jetson AGX Orin Developer Kit": 87,
    "rtx 4090": 89,
    "NVIDIA L40S": 89,
    "NVIDIA GeForce RTX 4070 Ti SUPER": 89,
    "NVIDIA RTX 4000 Ada Generation": 89,
    "NVIDIA RTX 6000 Ada Generation": 89,
    "NVIDIA H100 80GB HBM3": 90,
    "NVIDIA H200": 90,
    "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition": 120,
    "NVIDIA GeForce RTX 5090 D": 120,
    "DGX Spark": 121,
}


def test_cards_are_known_by_every_name_that_people_and_tools_write():
    assert {card: capability(card) for card in KNOWN} == KNOWN


def test_a_capability_names_a_card_too():
    spellings = ("SM86", "SM 86", "sm_86", "8.6", "86", "compute_86", "cc 8.6", "sm_86a")
    assert {sm_name(capability(text)) for text in spellings} == {"SM86"}


def test_an_unknown_card_is_refused_with_its_nearest_names_and_a_way_out():
    with pytest.raises(WorkbenchError) as refusal:
        capability("RTX 4095")
    assert "RTX 4090" in refusal.value.why
    assert "SM86" in refusal.value.remedy
    for card in (86, "", " ", "GTX 1080 Ti", "Radeon VII"):
        with pytest.raises(WorkbenchError):
            capability(card)
