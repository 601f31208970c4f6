"""The blocks of a README: its shell commands and its Python."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
README, CHINESE = (ROOT / name for name in ("README.md", "README.zh-CN.md"))


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language; blocks in tabs are dedented."""
    found = re.findall(rf"^([ ]*)```{language}\n(.*?)^[ ]*```", page.read_text(), flags=re.M | re.S)
    return ["".join(line[len(indent) :] for line in text.splitlines(keepends=True)) for indent, text in found]


def commands(page: Path) -> list[list[str]]:
    """The words of every shell command of a page's blocks, in their order, without comments."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def code(page: Path) -> str:
    """The Python of a page's blocks, without comments."""
    text = "\n".join(blocks(page, "python"))
    return re.sub(r"\s+# .*$", "", text, flags=re.M)
