"""Files of measurements as JSON Lines: the first line says what follows, and each later one carries its SHA-256."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..digests import digest
from ..errors import WorkbenchError, refuse_unless
from ..files import new_file


def signed(line: Mapping[str, Any]) -> dict[str, Any]:
    """The line with the checksum of everything in it."""
    return {**line, "sha256": digest(json.dumps(line, sort_keys=True))}


def write_lines(path: Path, header: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]) -> None:
    """Write a file whole or not at all; the header gains ``count``, and every line its checksum.

    Raises:
        WorkbenchError: the file cannot be written.
    """
    lines = list(lines)
    with new_file(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write(json.dumps({**header, "count": len(lines)}) + "\n")
        for line in lines:
            file.write(json.dumps(signed(line)) + "\n")


def read_lines(
    path: Path, kind: str, version: int, *, texts: Iterable[str] = (), remedy: str
) -> tuple[dict, list[str]]:
    """The header of a file and the lines after it, whose checksums ``checked`` compares.

    Args:
        path: the file.
        kind: the header's ``format``.
        version: the header's ``version``.
        texts: what the header names beside them; none may be empty.
        remedy: what to do where it is another file.

    Raises:
        WorkbenchError: it cannot be read, is of another kind or version, or lines are missing.
    """
    try:
        first, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
        header = json.loads(first)
        known = (header["format"], header["version"]) == (kind, version)
        known &= all(isinstance(header[name], str) and header[name] for name in texts)
    except (OSError, UnicodeDecodeError, ValueError, TypeError, KeyError) as error:
        why = f"{type(error).__name__}: {error}"[:300]
        raise WorkbenchError(f"{path} cannot be read as records", why=why, remedy=remedy) from error
    refuse_unless(
        known,
        f"{path} holds no records that this version reads",
        why=f"its first line is {first[:200]}",
        remedy=f"export it again with a version that writes {kind!r} of version {version}",
    )
    refuse_unless(
        len(lines) == header.get("count"),
        f"{path} is not whole",
        why=f"its first line promises {header.get('count')} measurements, and it has {len(lines)}",
        remedy="copy or export it again; nothing was imported",
    )
    return header, lines


def checked(line: str) -> dict[str, Any]:
    """A line's values, its checksum left out.

    Raises:
        WorkbenchError: the checksum is another.
        ValueError, TypeError, KeyError, AttributeError: it is no line of such a file.
    """
    data = json.loads(line)
    claimed = data.pop("sha256")
    expected = signed(data)["sha256"]
    refuse_unless(
        claimed == expected,
        "Its checksum is another",
        why=f"it says {claimed!r}, and its contents have {expected!r}",
        remedy="copy or export the file again",
    )
    return data
