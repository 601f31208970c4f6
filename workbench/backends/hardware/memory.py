"""Peak physical memory of this process."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from ...files import text_or_empty


class MemoryMeter:
    """How far this process's physical memory has risen since the meter was made.

    Linux keeps the peak itself (VmHWM), and the meter restarts it; where that is not allowed, the present amount
    is taken for the peak. Everything that the process allocates meanwhile is counted. A new meter restarts the
    peak of earlier meters as well.
    """

    def __init__(self):
        _release_unused_memory()  # otherwise the next allocations may reuse freed heap and not be counted
        self._before = _resident_bytes()
        try:
            Path("/proc/self/clear_refs").write_text("5")  # man 5 proc: resets the peak resident set size
            self._peak_is_ours = True
        except OSError:
            self._peak_is_ours = False

    def peak(self) -> int:
        """Bytes above where the meter began."""
        peak = _peak_resident_bytes() if self._peak_is_ours else 0
        return max(0, max(peak, _resident_bytes()) - self._before)


def _peak_resident_bytes() -> int:
    lines = text_or_empty("/proc/self/status").splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _resident_bytes() -> int:
    """Bytes of physical memory now; the peak where the system has no other number (macOS); 0 where it has none."""
    if pages := text_or_empty("/proc/self/statm").split():
        return int(pages[1]) * os.sysconf("SC_PAGE_SIZE")
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _release_unused_memory() -> None:
    """Give freed heap back to the system."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
        if trim is not None:
            trim(0)
