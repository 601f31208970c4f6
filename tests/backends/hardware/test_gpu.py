"""What nvidia-smi prints, read from a stand-in on the PATH; memory, streams and graphs are tested in tests/gpu."""

from __future__ import annotations

import sys

import pytest

from workbench.backends.hardware import gpu
from workbench.backends.hardware.gpu import driver_cuda, gpus


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Installs a program of that name, or none; what is known of the real one is forgotten before and after."""

    def install(script: str = ""):
        if script:
            program = tmp_path / "nvidia-smi"
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin" if script else str(tmp_path))

    for known in (gpus, driver_cuda):
        known.cache_clear()
    yield install
    for known in (gpus, driver_cuda):
        known.cache_clear()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            "echo 'NVIDIA H100 80GB HBM3, 9.0, 81559, 580.159.04'",
            [("NVIDIA H100 80GB HBM3", 90, 81559 << 20, "580.159.04")],
        ),
        (
            "echo 'NVIDIA A, 8.0, 1, 5'; echo 'NVIDIA L4, 8.9, 2, 5'",
            [("NVIDIA A", 80, 1 << 20, "5"), ("NVIDIA L4", 89, 2 << 20, "5")],
        ),
        (
            "echo 'Orin (nvgpu), 8.7, [N/A], 540.3.0'",
            [("Orin (nvgpu)", 87, 0, "540.3.0")],
        ),  # it shares its memory with the CPU
        ("exit 9", []),
        ("echo 'No devices were found'", []),
        ("echo 'NVIDIA, [N/A], [N/A], 1'", []),
    ],
)
def test_gpus_are_read_from_nvidia_smi(nvidia_smi, script, expected):
    nvidia_smi(script)
    assert list(gpus()) == expected


def test_the_gpus_that_cuda_programs_see_are_asked_for(nvidia_smi, monkeypatch):
    nvidia_smi('echo "asked for $3 $4, 8.0, 1, 580"')
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert gpus()[0].name == "asked for -i 3"


def test_the_drivers_cuda_is_read_from_its_table(nvidia_smi):
    nvidia_smi("echo '| NVIDIA-SMI 580.159.04   Driver Version: 580.159.04   CUDA Version: 13.0     |'")
    assert driver_cuda() == (13, 0)


def test_without_nvidia_smi_there_is_no_gpu_and_no_driver(nvidia_smi):
    nvidia_smi()
    assert (gpus(), driver_cuda()) == ((), None)


def test_without_pycuda_the_remedy_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    assert "conda-forge" in gpu.pycuda_missing().remedy
