"""The machine under a service, as Prometheus metrics: GPUs through NVML, processors and memory through psutil.

Both packages are optional: pynvml comes as nvidia-ml-py. Where one is missing or finds nothing, its metrics are
absent and ``workbench_machine_info`` says why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

#: Name -> help, and the value for a GPU's handle.
GPU: dict[str, tuple[str, Callable]] = {
    "utilization_percent": (
        "Share of time in which kernels ran.",
        lambda n, h: n.nvmlDeviceGetUtilizationRates(h).gpu,
    ),
    "memory_used_bytes": ("Memory in use.", lambda n, h: n.nvmlDeviceGetMemoryInfo(h).used),
    "memory_total_bytes": ("All memory.", lambda n, h: n.nvmlDeviceGetMemoryInfo(h).total),
    "temperature_celsius": (
        "Temperature of the chip.",
        lambda n, h: n.nvmlDeviceGetTemperature(h, n.NVML_TEMPERATURE_GPU),
    ),
    "power_watts": ("Power drawn now.", lambda n, h: n.nvmlDeviceGetPowerUsage(h) / 1e3),
}
CPU: dict[str, tuple[str, Callable]] = {
    "cpu_utilization_percent": ("Share of all processors' time since the last look.", lambda p: p.cpu_percent()),
    "memory_available_bytes": ("Memory that programs can still get.", lambda p: p.virtual_memory().available),
    "memory_total_bytes": ("All memory.", lambda p: p.virtual_memory().total),
}


class MachineCollector:
    """A collector for a ``CollectorRegistry``."""

    def __init__(self):
        self._psutil: Any = _psutil()
        self._nvml: Any = None
        self._handles: list = []
        self._why: dict[str, str] = {}
        if self._psutil is None:
            self._why["cpu"] = "no metrics of processors: the package psutil is not installed"
        else:
            self._psutil.cpu_percent()  # the first look begins to count
        try:
            self._nvml, self._handles = _gpus()
        except Exception as error:  # NVML raises its own class, which is known only once it is imported
            self._why["gpu"] = f"no metrics of GPUs: {type(error).__name__}: {error}"[:200]

    def collect(self) -> Iterator:
        """The metrics now."""
        yield InfoMetricFamily("workbench_machine", "What is not known of the machine, and why.", self._why)
        if self._psutil is not None:
            for name, (text, value) in CPU.items():
                yield GaugeMetricFamily(f"workbench_machine_{name}", text, value(self._psutil))
        for name, (text, value) in GPU.items():
            family = GaugeMetricFamily(f"workbench_gpu_{name}", text, labels=["gpu"])
            for index, handle in enumerate(self._handles):
                with contextlib.suppress(self._nvml.NVMLError):  # a card or a slice of it may not measure it
                    family.add_metric([str(index)], value(self._nvml, handle))
            if family.samples:
                yield family


def _psutil() -> ModuleType | None:
    try:
        import psutil
    except ImportError:
        return None
    return psutil


def _gpus() -> tuple[ModuleType, list]:
    """NVML and a handle of each GPU; it raises where there is no NVML."""
    import pynvml

    pynvml.nvmlInit()
    return pynvml, [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
