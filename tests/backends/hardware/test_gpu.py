"""What nvidia-smi prints, read from a stand-in on the PATH; memory, streams and graphs are tested in tests/gpu."""

from __future__ import annotations

import sys

import pytest

from workbench.backends.hardware import gpu
from workbench.backends.hardware.gpu import Gpu, driver_cuda, gpus


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


def test_gpus_are_read_from_nvidia_smi(nvidia_smi):
    # as seen on a host with an H100
    nvidia_smi("echo 'NVIDIA H100 80GB HBM3, 9.0, 81559, 580.159.04'; echo 'NVIDIA L4, 8.9, 23034, 580.159.04'")
    assert gpus() == (
        Gpu("NVIDIA H100 80GB HBM3", 90, 81559 << 20, "580.159.04"),
        Gpu("NVIDIA L4", 89, 23034 << 20, "580.159.04"),
    )


def test_memory_that_the_driver_does_not_give_is_zero(nvidia_smi):
    nvidia_smi("echo 'Orin (nvgpu), 8.7, [N/A], 540.3.0'")  # a Jetson shares its memory with the CPU
    assert gpus() == (Gpu("Orin (nvgpu)", 87, 0, "540.3.0"),)


@pytest.mark.parametrize("script", ["exit 9", "echo 'No devices were found'", "echo 'NVIDIA, [N/A], [N/A], 1'"])
def test_a_driver_without_gpus_shows_none(nvidia_smi, script):
    nvidia_smi(script)
    assert gpus() == ()


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
