"""Energy in joules: of CPU packages through RAPL, of a GPU through NVML; None where neither counts it.

Both are counters of the hardware for the whole package or card, so that other work on it is counted too. A counter
that the user may not read counts as absent: since 2020 Linux lets only root read RAPL's.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from pathlib import Path

from ...errors import Refusal

#: One folder for each package, with the files ``name``, ``energy_uj`` and ``max_energy_range_uj``
#: (https://docs.kernel.org/power/powercap/powercap.html).
POWERCAP = Path("/sys/class/powercap")
#: NVML's library; a driver brings it.
NVML = "libnvidia-ml.so.1"


class Rapl:
    """The counters of the CPU's packages; each starts again at 0 behind its range."""

    def __init__(self, folder: Path = POWERCAP):
        self._packages = [
            (zone / "energy_uj", int((zone / "max_energy_range_uj").read_text()))
            for zone in sorted(folder.glob("intel-rapl:*"))
            if zone.name.count(":") == 1 and (zone / "name").read_text().startswith("package")
        ]
        self._last = [self._read(file) for file, _ in self._packages]
        self._used, self._lock = 0, threading.Lock()

    @property
    def counts(self) -> bool:
        """Whether there is a package to count."""
        return bool(self._packages)

    @staticmethod
    def _read(file: Path) -> int:
        return int(file.read_text())

    def joules(self) -> float:
        """Energy of all packages since this object was made; to be read more often than a counter's range takes."""
        with self._lock:
            now = [self._read(file) for file, _ in self._packages]
            for before, after, (_, span) in zip(self._last, now, self._packages):
                self._used += after - before if after >= before else after + span - before
            self._last = now
            return 1e-6 * self._used


@functools.cache
def _rapl() -> Rapl | None:
    with contextlib.suppress(OSError, ValueError):
        meter = Rapl()
        return meter if meter.counts else None
    return None


def cpu_joules() -> float | None:
    """Energy of the CPU's packages since the first call; None where it cannot be read."""
    meter = _rapl()
    return meter.joules() if meter else None


@functools.cache
def _nvml() -> tuple[ctypes.CDLL, ctypes.c_void_p] | None:
    """NVML and the handle of the first GPU that CUDA programs see; None without a driver or such a counter."""
    try:
        library = ctypes.CDLL(NVML)
    except OSError:
        return None
    handle, seen = ctypes.c_void_p(), os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if library.nvmlInit_v2():
        return None
    if seen.isdigit():
        missing = library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(seen)), ctypes.byref(handle))
    else:
        missing = library.nvmlDeviceGetHandleByUUID(seen.encode(), ctypes.byref(handle))
    return None if missing else (library, handle)


def gpu_joules() -> float | None:
    """Energy of the GPU since its driver was loaded; None where it is not counted (before the Volta generation)."""
    found = _nvml()
    if found is None:
        return None
    millijoules = ctypes.c_ulonglong()
    failed = found[0].nvmlDeviceGetTotalEnergyConsumption(found[1], ctypes.byref(millijoules))
    return None if failed else 1e-3 * millijoules.value


def energy_missing() -> Refusal | None:
    """Why no energy of this machine's CPU can be read, or None when it can."""
    if cpu_joules() is not None:
        return None
    zones = sorted(POWERCAP.glob("intel-rapl:*/energy_uj"))
    if zones:
        return Refusal("the CPU's energy counters may not be read", f"let root run: chmod a+r {zones[0]}")
    reason = "the system shows no energy counters of the CPU (RAPL)"
    return Refusal(reason, "measure on the machine itself: a virtual one has none")


def gpu_energy_missing() -> Refusal | None:
    """Why no energy of the first GPU can be read, or None when it can."""
    if gpu_joules() is not None:
        return None
    reason = "NVML counts no energy of this GPU" if _nvml() else f"the driver's {NVML} cannot be used"
    return Refusal(reason, "cards before the Volta generation, and slices of a card, have no such counter")
