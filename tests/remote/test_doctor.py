"""The doctor on this machine, and on machines that are told to it."""

from __future__ import annotations

import json

import pytest

from workbench.backends.hardware.gpu import Gpu
from workbench.remote import doctor

H200 = Gpu("NVIDIA H200", 90, 143771 << 20, "535.104.05")
T4 = Gpu("Tesla T4", 75, 15360 << 20, "470.57.02")


@pytest.fixture
def machine(monkeypatch):
    """Tells the doctor which GPU, driver and packages there are."""

    def tell(*, gpu=None, cuda=None, pycuda_for=None, **versions):
        found = (gpu,) if gpu else ()
        monkeypatch.setattr(doctor, "gpus", lambda: found)
        monkeypatch.setattr(doctor, "driver_cuda", lambda: cuda)
        monkeypatch.setattr(doctor, "pycuda_cuda", lambda: pycuda_for)
        monkeypatch.setattr(doctor, "_version", lambda name: versions.get(name.replace("-", "_")))
        return {row["item"]: row for row in doctor.rows()}

    return tell


def test_every_row_has_the_same_columns_and_survives_json():
    found = doctor.rows()
    assert json.loads(json.dumps(found)) == found
    assert all(set(row) == {"item", "found", "status", "remedy"} for row in found)
    assert all(row["remedy"] for row in found if row["status"] != doctor.OK)
    assert {"Python", "memory", "jax", "onnxruntime", "tensorrt", "pycuda", "GPU"} <= {
        row["item"].removesuffix(" 0") for row in found
    }


def test_this_machine_has_what_the_workbench_needs():
    found = {row["item"]: row for row in doctor.rows()}
    assert found["backend onnxruntime"]["status"] == doctor.OK
    assert not [row for row in found.values() if row["status"] == doctor.CLASH]


def test_a_jaxlib_that_is_newer_than_jax_is_a_clash(machine):
    row = machine(jax="0.10.2", jaxlib="0.11.0")["jax and jaxlib"]
    assert (row["status"], row["remedy"]) == (doctor.CLASH, "pip install jaxlib==0.10.2")
    assert "jax and jaxlib" not in machine(jax="0.10.2", jaxlib="0.10.2")


def test_a_gpu_without_pycuda_builds_and_does_not_run(machine):
    assert machine(gpu=T4, cuda=(12, 4), tensorrt_rtx="1.7.1")["engines and pycuda"]["status"] == doctor.CLASH
    assert "engines and pycuda" not in machine(gpu=T4, cuda=(12, 4), tensorrt_rtx="1.7.1", pycuda="2026.1")


def test_a_driver_that_is_too_old_for_tensorrt_is_a_clash(machine):
    row = machine(gpu=T4, cuda=(11, 4), tensorrt="11.0.0", pycuda="2026.1")["driver and tensorrt"]
    assert row["status"] == doctor.CLASH
    assert "CUDA 12" in row["found"]
    assert "525" in row["remedy"]
    assert "driver and tensorrt" not in machine(gpu=T4, cuda=(12, 4), tensorrt="11.0.0", pycuda="2026.1")


def test_a_wheel_names_the_cuda_that_it_needs(machine):
    installed = {"gpu": T4, "cuda": (12, 4), "tensorrt": "10.14.0", "pycuda": "2026.1"}
    assert "driver and tensorrt" not in machine(**installed, tensorrt_cu12="10.14.0")
    row = machine(**installed, tensorrt_cu13="10.14.0")["driver and tensorrt"]
    assert "needs CUDA 13, and driver 470.57.02 ends at CUDA 12.4" in row["found"]
    assert "580" in row["remedy"]


def test_a_pycuda_that_was_built_for_a_newer_cuda_is_a_clash(machine):
    found = machine(gpu=T4, cuda=(12, 4), pycuda="2026.1", pycuda_for=(13, 0))
    assert found["driver and pycuda"]["status"] == doctor.CLASH
    assert found["CUDA runtime"]["found"].startswith("13.0")


def test_an_h200_and_tensorrt_rtx_do_not_go_together(machine):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is missing: pip install tensorrt-rtx")
    row = machine(gpu=H200, cuda=(12, 2), tensorrt_rtx="1.7.1", pycuda="2026.1")["tensorrt-rtx and the GPU"]
    assert row["status"] == doctor.CLASH
    assert "SM90" in row["found"]
    assert "use tensorrt on this GPU" in row["remedy"]
    assert "tensorrt-rtx and the GPU" not in machine(gpu=T4, cuda=(12, 4), tensorrt_rtx="1.7.1", pycuda="2026.1")


def test_tensorrt_86_and_opset_17_are_explained(machine):
    row = machine(gpu=T4, cuda=(12, 4), tensorrt="8.6.0", pycuda="2026.1")["TensorRT and opset"]
    assert "opset=17" in row["remedy"]
    row = machine(gpu=T4, cuda=(12, 4), tensorrt="10.14.0", pycuda="2026.1")["TensorRT and opset"]
    assert "opset 24" in row["found"]


def test_driver_and_runtime_of_cuda_have_rows_with_or_without_a_gpu(machine):
    found = machine(jax="0.10.2")
    assert (found["CUDA driver"]["status"], found["CUDA runtime"]["status"]) == (doctor.MISSING, doctor.MISSING)
    found = machine(gpu=T4, cuda=(12, 4), pycuda="2026.1", pycuda_for=(12, 2))
    assert "12.4" in found["CUDA driver"]["found"]
    assert "12.2" in found["CUDA runtime"]["found"]


def test_no_build_is_offered_that_does_not_exist(machine):
    installed = {
        "gpu": T4,
        "cuda": (11, 4),
        "pycuda": "2026.1",
        "tensorrt_rtx": "1.7.1",
        "tensorrt_rtx_cu13": "1.7.1",
    }
    assert machine(**installed)["driver and tensorrt-rtx"]["remedy"] == "install driver 580 or later"
    installed = {"gpu": T4, "cuda": (11, 4), "pycuda": "2026.1", "tensorrt": "10.14", "tensorrt_cu13": "10.14"}
    assert "or a build for CUDA 11" in machine(**installed)["driver and tensorrt"]["remedy"]


def test_the_table_has_a_line_for_every_row_and_every_remedy():
    found = doctor.rows()
    lines = doctor.table(found).splitlines()
    assert len(lines) == len(found) + sum(bool(row["remedy"]) for row in found)
