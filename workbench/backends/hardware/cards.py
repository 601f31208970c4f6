"""GPUs by name: which compute capability a card has.

The list with its sources is ``cards.json``. A card is written as its name (``T4``, ``RTX 4090``, or what nvidia-smi
prints) or as its capability (``SM86``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files

from ...errors import WorkbenchError, refuse_unless

_DATA = files("workbench.backends.hardware").joinpath("cards.json")
#: Compute capability (86 for 8.6) -> the names of the cards that have it.
CARDS: Mapping[int, tuple[str, ...]] = {
    row["capability"]: tuple(row["cards"]) for row in json.loads(_DATA.read_text(encoding="utf-8"))["capabilities"]
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


_BY_NAME = {plain_name(name): sm for sm, names in CARDS.items() for name in names}
_SPELT = {plain_name(name): name for names in CARDS.values() for name in names}
