"""Facts about this machine from its operating system: processor, cores, load. Recorded with every measurement."""

from __future__ import annotations

import datetime
import math
import os
import platform
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
    limit = _container_cores()
    return max(1, len(physical) if limit is None else min(len(physical), limit))


def _container_cores() -> int | None:
    """The CPU limit of cgroup v2 in cores (``cpu.max`` is "quota period" in µs); None without a limit."""
    quota, _, period = _text("/sys/fs/cgroup/cpu.max").partition(" ")
    return math.ceil(int(quota) / int(period)) if quota.isdigit() else None


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
    deciding = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "amx_bf16", "asimddp", "i8mm", "sve")
    flags = next(
        (line for line in _text("/proc/cpuinfo").splitlines() if line.startswith(("flags", "Features"))), ""
    )
    return " ".join(name for name in deciding if name in flags.split())


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
