"""The doctor on this machine, and on machines that are described to it."""

from __future__ import annotations

import json

import pytest

from workbench.backends.hardware.gpu import Gpu
from workbench.errors import Refusal
from workbench.remote import doctor

H200 = Gpu("NVIDIA H200", 90, 143771 << 20, "535.104.05")
T4 = Gpu("Tesla T4", 75, 15360 << 20, "470.57.02")


@pytest.fixture
def machine(monkeypatch):
    """The doctor's rows, by item, for a machine with this GPU, driver and packages."""

    def rows(*, gpu=T4, cuda=(12, 4), pycuda="2026.1", pycuda_for=None, **versions):
        versions["pycuda"] = pycuda
        monkeypatch.setattr(doctor, "gpus", lambda: (gpu,) if gpu else ())
        monkeypatch.setattr(doctor, "driver_cuda", lambda: cuda)
        monkeypatch.setattr(doctor, "pycuda_cuda", lambda: pycuda_for)
        monkeypatch.setattr(doctor, "_version", lambda name: versions.get(name.replace("-", "_")))
        return {row["item"]: row for row in doctor.rows()}

    return rows


def test_this_machine_has_what_the_workbench_needs_in_rows_that_survive_json():
    found = doctor.rows()
    assert json.loads(json.dumps(found)) == found
    assert len(doctor.table(found).splitlines()) == len(found) + sum(bool(row["remedy"]) for row in found)
    assert all(set(row) == {"item", "found", "status", "remedy"} for row in found)
    assert all(row["remedy"] for row in found if row["status"] != doctor.OK)
    status = {row["item"].removesuffix(" 0"): row["status"] for row in found}
    assert {"Python", "memory", "jax", "tensorrt", "pycuda", "GPU", "CUDA driver", "CUDA runtime"} <= set(status)
    assert status["backend onnxruntime"] == doctor.OK
    assert doctor.CLASH not in status.values()


def test_it_says_by_which_counter_energy_is_read_or_why_it_is_not(machine, monkeypatch):
    monkeypatch.setattr(doctor, "energy_missing", lambda: Refusal("no counters here", "measure elsewhere"))
    monkeypatch.setattr(doctor, "gpu_energy_missing", lambda: None)
    found = machine()
    processor, gpu = found["energy of the processor"], found["energy of the GPU"]
    assert (processor["status"], processor["found"]) == (doctor.MISSING, "no counters here")
    assert processor["remedy"] == "measure elsewhere"
    assert (gpu["status"], gpu["found"]) == (doctor.OK, "by NVML")
    assert "energy of the GPU" not in machine(gpu=None)


#: What clashes -> the machine, the row's item, words of what was found, and words of the remedy.
CLASHES = {
    "a jaxlib that is newer than jax": (
        {"jax": "0.10.2", "jaxlib": "0.11.0"},
        "jax and jaxlib",
        "jaxlib 0.11.0 is newer",
        "pip install jaxlib==0.10.2",
    ),
    "a GPU without pycuda": (
        {"tensorrt_rtx": "1.7.1", "pycuda": None},
        "engines and pycuda",
        "built and not run",
        "pycuda",
    ),
    "a driver that is too old for TensorRT": (
        {"cuda": (11, 4), "tensorrt": "11.0.0"},
        "driver and tensorrt",
        "CUDA 12",
        "525",
    ),
    "a wheel for a newer CUDA": (
        {"tensorrt": "10.14.0", "tensorrt_cu13": "10.14.0"},
        "driver and tensorrt",
        "needs CUDA 13, and driver 470.57.02 ends at CUDA 12.4",
        "580",
    ),
    "an old driver, where an older build exists": (
        {"cuda": (11, 4), "tensorrt": "10.14", "tensorrt_cu13": "10.14"},
        "driver and tensorrt",
        "CUDA 13",
        "or a build for CUDA 11",
    ),
    "a pycuda that was built for a newer CUDA": ({"pycuda_for": (13, 0)}, "driver and pycuda", "CUDA 13", "580"),
}


@pytest.mark.parametrize("clash", CLASHES)
def test_the_doctor_finds(machine, clash):
    described, item, found, remedy = CLASHES[clash]
    row = machine(**described)[item]
    assert row["status"] == doctor.CLASH
    assert found in row["found"]
    assert remedy in row["remedy"]


@pytest.mark.parametrize(
    ("described", "item"),
    [
        ({"jax": "0.10.2", "jaxlib": "0.10.2"}, "jax and jaxlib"),
        ({"tensorrt_rtx": "1.7.1"}, "engines and pycuda"),
        ({"tensorrt": "11.0.0"}, "driver and tensorrt"),
        ({"tensorrt": "10.14.0", "tensorrt_cu12": "10.14.0"}, "driver and tensorrt"),
    ],
)
def test_parts_that_fit_have_no_row(machine, described, item):
    assert item not in machine(**described)


def test_no_build_is_offered_that_does_not_exist(machine):
    found = machine(cuda=(11, 4), tensorrt_rtx="1.7.1", tensorrt_rtx_cu13="1.7.1")
    assert found["driver and tensorrt-rtx"]["remedy"] == "install driver 580 or later"


def test_a_machine_with_a_gpu_says_which_tool_lists_kernels(machine, monkeypatch):
    tools = {"": Refusal("there is no tool", "get ncu"), "ncu": None}
    for tool, refusal in tools.items():
        monkeypatch.setattr(doctor, "tracer_name", lambda tool=tool: tool)
        monkeypatch.setattr(doctor, "tracer_missing", lambda refusal=refusal: refusal)
        row = machine()["kernel lists"]
        assert (row["status"], row["remedy"]) == (("missing", "get ncu") if refusal else ("ok", ""))
        assert row["found"] == ("there is no tool" if refusal else "by ncu")
    assert "kernel lists" not in machine(gpu=None, cuda=None)


def test_an_h200_and_tensorrt_rtx_do_not_work_together(machine):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is missing: pip install tensorrt-rtx")
    row = machine(gpu=H200, cuda=(12, 2), tensorrt_rtx="1.7.1")["tensorrt-rtx and the GPU"]
    assert row["status"] == doctor.CLASH
    assert "SM90" in row["found"]
    assert "use tensorrt on this GPU" in row["remedy"]
    assert "tensorrt-rtx and the GPU" not in machine(tensorrt_rtx="1.7.1")


def test_the_opset_that_an_installed_tensorrt_reads_is_named(machine):
    assert "opset=17" in machine(tensorrt="8.6.0")["TensorRT and opset"]["remedy"]
    assert "opset 24" in machine(tensorrt="10.14.0")["TensorRT and opset"]["found"]


def test_driver_and_runtime_of_cuda_have_rows_with_or_without_a_gpu(machine):
    found = machine(gpu=None, cuda=None)
    assert (found["CUDA driver"]["status"], found["CUDA runtime"]["status"]) == (doctor.MISSING, doctor.MISSING)
    found = machine(pycuda_for=(12, 2))
    assert "12.4" in found["CUDA driver"]["found"]
    assert found["CUDA runtime"]["found"].startswith("12.2")
