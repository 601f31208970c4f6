"""What the operating system says about this machine and this process; recorded with every number."""

from __future__ import annotations

import ctypes
import datetime
import math
import os
import platform
import sys
from pathlib import Path

import numpy as np


def cores() -> int:
    """Physical cores that this process may use: by its affinity and, in a container, by its share of CPU time.

    Two threads of one core share its vector units, so that matrix products gain nothing from the second.
    """
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # macOS and Windows have no affinity mask
        return os.cpu_count() or 1
    siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    physical = {_text(siblings.format(cpu)) or str(cpu) for cpu in allowed}
    return max(1, min(len(physical), _container_cores()))


def _container_cores() -> float:
    """The CPU limit of cgroup v2 in cores (``cpu.max`` is "quota period" in µs); infinity without a limit."""
    quota, _, period = _text("/sys/fs/cgroup/cpu.max").partition(" ")
    return math.ceil(int(quota) / int(period)) if quota.isdigit() else math.inf


def environment() -> dict:
    """The machine, its load and the interpreter, as plain values for a record."""
    facts = {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": cores(),
        "isa": _instruction_sets(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    if hasattr(os, "getloadavg"):
        facts["load_average"] = round(os.getloadavg()[0], 2)  # over one minute
    return facts


def _cpu_model() -> str:
    lines = _text("/proc/cpuinfo").splitlines()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def _instruction_sets() -> str:
    """The extensions that decide how fast, and on INT8 how exact, matrix products are."""
    telling = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "amx_bf16", "asimddp", "i8mm", "sve")
    flags = next(
        (line for line in _text("/proc/cpuinfo").splitlines() if line.startswith(("flags", "Features"))), ""
    )
    return " ".join(name for name in telling if name in flags.split())


class MemoryMeter:
    """How far this process's physical memory has risen since the meter was made.

    Linux keeps the peak itself (VmHWM), and the meter restarts it; where that is not allowed, the present amount
    stands in for the peak. Everything that the process allocates meanwhile is counted, and of several meters the
    newest restarts the peak of all.
    """

    def __init__(self):
        _release_unused_memory()  # else what comes next may hide in heap that was freed before
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
    lines = _text("/proc/self/status").splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _resident_bytes() -> int:
    """Bytes of physical memory now; where the system tells only the peak (macOS), the peak; 0 where nothing."""
    if pages := _text("/proc/self/statm").split():
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


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
