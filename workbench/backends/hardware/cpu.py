"""Facts about this machine from its operating system: processor, cores, load. Recorded with every measurement."""

from __future__ import annotations

import datetime
import math
import os
import platform

import numpy as np

from ...files import text_or_empty
from .energy import energy_missing


def cores() -> int:
    """Physical cores that this process may use: by its affinity and, in a container, by its share of CPU time.

    Two threads of one core share its vector units, so that matrix products gain nothing from the second.
    """
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # macOS and Windows have no affinity mask
        return os.cpu_count() or 1
    siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    physical = {text_or_empty(siblings.format(cpu)) or str(cpu) for cpu in allowed}
    limit = _container_cores()
    return max(1, len(physical) if limit is None else min(len(physical), limit))


def _container_cores() -> int | None:
    """The CPU limit of cgroup v2 in cores (``cpu.max`` is "quota period" in µs); None without a limit."""
    quota, _, period = text_or_empty("/sys/fs/cgroup/cpu.max").partition(" ")
    return math.ceil(int(quota) / int(period)) if quota.isdigit() else None


def environment() -> dict:
    """The machine, its load and the interpreter, as plain values for a record."""
    facts = {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpuinfo("model name") or platform.machine(),
        "cores": cores(),
        "isa": _instruction_sets(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cpu_energy": "RAPL" if (refusal := energy_missing()) is None else f"not read: {refusal.reason}",
    }
    if hasattr(os, "getloadavg"):
        facts["load_average"] = round(os.getloadavg()[0], 2)  # over one minute
    return facts


def _instruction_sets() -> str:
    """The extensions that decide how fast, and on INT8 how exact, matrix products are."""
    deciding = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "amx_bf16", "asimddp", "i8mm", "sve")
    flags = _cpuinfo("flags", "Features").split()
    return " ".join(name for name in deciding if name in flags)


def _cpuinfo(*fields: str) -> str:
    """The value of the first of these fields in /proc/cpuinfo; empty where it has none."""
    lines = text_or_empty("/proc/cpuinfo").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(fields)), "")
