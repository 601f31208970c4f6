import sys
from types import SimpleNamespace

import psutil
import pytest
from prometheus_client import CollectorRegistry

from workbench.deployment.machine import MachineCollector
from workbench.deployment.metrics import named_values


def values() -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(MachineCollector())
    return named_values(registry)


class NVMLError(Exception):
    pass


def refuse(*given):
    raise NVMLError("Not Supported")


@pytest.fixture
def two_gpus(monkeypatch):
    """NVML of a machine with two GPUs, the second of which measures no power. A handle is the GPU's number."""
    fake = SimpleNamespace(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=30 + handle, memory=1),
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=5, total=8),
        nvmlDeviceGetTemperature=lambda handle, sensor: 40 + handle,
        nvmlDeviceGetPowerUsage=lambda handle: 70_500 if handle == 0 else refuse(),
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)


def test_each_gpu_is_measured_and_what_it_does_not_measure_is_absent(two_gpus):
    found = {name: value for name, value in values().items() if name.startswith("workbench_gpu")}
    assert found == {
        'workbench_gpu_utilization_percent{gpu="0"}': 30,
        'workbench_gpu_utilization_percent{gpu="1"}': 31,
        'workbench_gpu_memory_used_bytes{gpu="0"}': 5,
        'workbench_gpu_memory_used_bytes{gpu="1"}': 5,
        'workbench_gpu_memory_total_bytes{gpu="0"}': 8,
        'workbench_gpu_memory_total_bytes{gpu="1"}': 8,
        'workbench_gpu_temperature_celsius{gpu="0"}': 40,
        'workbench_gpu_temperature_celsius{gpu="1"}': 41,
        'workbench_gpu_power_watts{gpu="0"}': 70.5,
    }
    assert values()["workbench_machine_info"] == 1  # nothing is missing, so it has no label


def test_without_a_gpu_its_metrics_are_absent_and_the_reason_is_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(nvmlInit=refuse))
    found = values()
    assert not [name for name in found if name.startswith("workbench_gpu")]
    assert found['workbench_machine_info{gpu="no metrics of GPUs: NVMLError: Not Supported"}'] == 1


def test_without_the_packages_the_rest_is_served_and_the_reasons_are_there(monkeypatch):
    for name in ("pynvml", "psutil"):
        monkeypatch.setitem(sys.modules, name, None)
    (name,) = values()
    assert "psutil is not installed" in name
    assert "no metrics of GPUs" in name


def test_processors_and_memory_are_those_of_psutil():
    found = values()
    assert 0 <= found["workbench_machine_cpu_utilization_percent"] <= 100
    assert found["workbench_machine_memory_total_bytes"] == psutil.virtual_memory().total
    assert 0 < found["workbench_machine_memory_available_bytes"] < found["workbench_machine_memory_total_bytes"]
