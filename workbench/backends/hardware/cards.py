"""GPUs by name: which compute capability a card has, and what that capability can compute.

Capabilities are NVIDIA's own list, https://developer.nvidia.com/cuda-gpus and /cuda-legacy-gpus, read in November
2026. A card is written as its name (``T4``, ``RTX 4090``, what nvidia-smi prints) or as its capability (``SM86``).
"""

from __future__ import annotations

import re

from ...errors import WorkbenchError, refuse_unless

#: Compute capability (86 for 8.6) -> the cards that have it; ``Ti``, ``Super`` and ``D`` are left out.
CARDS = {
    70: "V100, TITAN V, Quadro GV100",
    72: "AGX Xavier, Xavier NX",
    75: "T4, TITAN RTX, RTX 2060, RTX 2070, RTX 2080, GTX 1630, GTX 1650, GTX 1660, RTX 3000, RTX 4000, RTX 5000,"
    " RTX 6000, RTX 8000, T400, T500, T600, T1000, T1200, T2000",
    80: "A100, A100X, A30, A30X, A800",
    86: "A40, A10, A10G, A16, A2, RTX A6000, RTX A5500, RTX A5000, RTX A4500, RTX A4000, RTX A3000, RTX A2000,"
    " RTX A1000, RTX A500, RTX A400, RTX 3090, RTX 3080, RTX 3070, RTX 3060, RTX 3050",
    87: "AGX Orin, Orin NX, Orin Nano, Orin",
    89: "L4, L40, L40S, L20, L2, RTX 6000 Ada, RTX 5880 Ada, RTX 5000 Ada, RTX 4500 Ada, RTX 4000 Ada,"
    " RTX 4000 SFF Ada, RTX 3500 Ada, RTX 3000 Ada, RTX 2000 Ada, RTX 1000 Ada, RTX 500 Ada, RTX 4090, RTX 4080,"
    " RTX 4070, RTX 4060, RTX 4050",
    90: "H100, H200, H800, H20, H20 3e, GH200",
    100: "B200, GB200, B100",
    103: "B300, GB300",
    110: "T5000, T4000, AGX Thor, Thor",
    120: "RTX PRO 6000, RTX PRO 5000, RTX PRO 4500, RTX PRO 4000, RTX PRO 4000 SFF, RTX PRO 3000, RTX PRO 2000,"
    " RTX PRO 1000, RTX PRO 500, RTX 5090, RTX 5080, RTX 5070, RTX 5060, RTX 5050",
    121: "GB10, DGX Spark",
}

_CAPABILITY = re.compile(r"(?:SM|COMPUTE|CC)?[ _]?(\d{1,2})\.?(\d)[AF]?", re.IGNORECASE)
#: What vendors put around a card's name: brands, form factors, memory, and an architecture that the name implies.
_DECORATION = re.compile(
    r"\b(NVIDIA|TESLA|GEFORCE|QUADRO|JETSON|GENERATION|LAPTOP|MOBILE|GPU|DEVELOPER|KIT|EDITION|SERVER|WORKSTATION"
    r"|WITH|MAX Q|DESIGN|BLACKWELL|PCIE|SXM\d*|NVL|HBM\w*|\d+ ?GB)\b"
)
#: Endings that make another card of the same architecture.
_ENDING = re.compile(r"(TI|SUPER|D)$")


def capability(card: str) -> int:
    """The compute capability of a card, 86 for 8.6.

    Raises:
        WorkbenchError: no card of this name is known.
    """
    refuse_unless(
        isinstance(card, str),
        "A card is written as text",
        why=f"given was {card!r}",
        remedy="write its name or its compute capability: 'T4', 'SM86'",
    )
    if match := _CAPABILITY.fullmatch(card.strip()):
        return int(match[1]) * 10 + int(match[2])
    name = plain_name(card)
    while name not in _BY_NAME and _ENDING.search(name):
        name = _ENDING.sub("", name)
    if name in _BY_NAME:
        return _BY_NAME[name]
    import difflib

    near = [_SPELT[key] for key in difflib.get_close_matches(name, _BY_NAME, n=3, cutoff=0.5)]
    raise WorkbenchError(
        f"The card {card!r} is not known",
        why=f"nearest are {', '.join(near)}" if near else "no known name is near it",
        remedy="write its compute capability instead, such as SM86 for 8.6: `nvidia-smi --query-gpu=compute_cap "
        "--format=csv` prints it",
    )


def sm_name(sm: int) -> str:
    """``SM86`` for 86."""
    return f"SM{sm}"


def plain_name(name: str) -> str:
    """``RTX4090`` for ``NVIDIA GeForce RTX 4090``: without brand, form factor, memory and spaces, to compare by."""
    return "".join(_DECORATION.sub(" ", name.upper().replace("-", " ")).split())


_BY_NAME = {plain_name(name): sm for sm, names in CARDS.items() for name in names.split(", ")}
_SPELT = {plain_name(name): name for names in CARDS.values() for name in names.split(", ")}
