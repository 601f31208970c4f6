"""What this machine can hold: sizes beyond its memory are refused before anything of that size is allocated."""

from __future__ import annotations

import functools
import os

from .errors import refuse_unless


@functools.cache
def memory_bytes() -> int:
    """The physical memory of this machine; 1 TiB where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return 1 << 40


def refuse_beyond_memory(size: int, what: str, remedy: str) -> None:
    """Raise a ``WorkbenchError`` when so many bytes do not fit in this machine's memory.

    Args:
        size: bytes.
        what: what would take them, one sentence without a full stop.
        remedy: what to do about it.
    """
    refuse_unless(
        size <= memory_bytes(),
        what,
        why=f"it takes {size / 2**30:,.1f} GiB, and this machine has {memory_bytes() / 2**30:,.1f} GiB of memory",
        remedy=remedy,
    )
