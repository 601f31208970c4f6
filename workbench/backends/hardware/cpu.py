"""Facts about this machine from its operating system: processor, cores, load. Recorded with every measurement."""

from __future__ import annotations

import datetime
import math
import os
import platform
from collections.abc import Iterator

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
    """The smallest CPU limit of this process's control group and the groups above it, in cores; None without one.

    Source: "CPU Interface Files" in the kernel's documentation of cgroup v2, and "CFS Bandwidth Control" for v1.
    """
    limits = [limit for quota, period in _quotas() if (limit := _limit(quota, period)) is not None]
    return max(1, math.ceil(min(limits))) if limits else None


def _quotas() -> Iterator[tuple[str, str]]:
    """Quota and period in µs of each group, as text: v2 writes both into one file, v1 into two."""
    for line in text_or_empty("/proc/self/cgroup").splitlines() or ["0::/"]:
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        for folder in _and_above(group):
            if not controllers:
                quota, _, period = text_or_empty(f"/sys/fs/cgroup{folder}/cpu.max").partition(" ")
                yield quota, period
            elif "cpu" in controllers.split(","):
                for mount in ("cpu", "cpu,cpuacct"):
                    files = (f"/sys/fs/cgroup/{mount}{folder}/cpu.cfs_{name}_us" for name in ("quota", "period"))
                    quota, period = map(text_or_empty, files)
                    yield quota, period


def _and_above(group: str) -> list[str]:
    """``/a/b``, ``/a`` and the root, which is empty; inside a container the root is the container's own group."""
    parts = [part for part in group.split("/") if part not in ("", "..")]
    return ["".join(f"/{part}" for part in parts[:length]) for length in range(len(parts), -1, -1)]


def _limit(quota: str, period: str) -> float | None:
    """Cores; None for ``max``, for v1's -1, and where there is no such file."""
    quota, period = quota.strip(), period.strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) > 0 else None


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
